use crate::time::Timestamp;
use std::time::Duration;

const MINUTE: u64 = 60_000_000;

/// Whether one more request passes of a source that may send `per_minute`, all of them at once if it likes.
///
/// `empty_at` is when the source will have used nothing, in microseconds since the epoch; 0 at first. Returns what it is
/// then. The generic cell rate algorithm (ITU-T I.371, "virtual scheduling"): a token bucket in one number.
///
/// Errors: how long to wait until one passes.
pub fn admit(empty_at: u64, now: Timestamp, per_minute: u32) -> Result<u64, Duration> {
    if per_minute == 0 {
        return Err(Duration::from_micros(MINUTE));
    }
    let interval = (MINUTE / u64::from(per_minute)).max(1);
    let now = now.as_micros();
    // More than a minute ahead there is only a clock that was set back.
    let used = empty_at.saturating_sub(now).min(MINUTE);
    let most = MINUTE - interval.min(MINUTE);
    if used > most {
        return Err(Duration::from_micros(used - most));
    }
    Ok(now.saturating_add(used).saturating_add(interval))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_minute_passes_more_than_twice_the_rate_and_waiting_helps(
            per_minute in 1_u32..2_000,
            gaps in proptest::collection::vec(0_u64..3_000_000, 1..400),
        ) {
            let (mut now, mut empty_at) = (1_000_000_u64, 0);
            let mut passed: Vec<u64> = Vec::new();
            for gap in gaps {
                now += gap;
                match admit(empty_at, Timestamp::from_micros(now), per_minute) {
                    Ok(then) => {
                        empty_at = then;
                        passed.push(now);
                    }
                    Err(wait) => {
                        let wait = u64::try_from(wait.as_micros()).unwrap();
                        prop_assert!(wait > 0 && wait <= MINUTE);
                        prop_assert!(admit(empty_at, Timestamp::from_micros(now + wait), per_minute).is_ok());
                    }
                }
            }
            for (first, at) in passed.iter().enumerate() {
                let within = passed[first..].iter().take_while(|later| **later < at + MINUTE).count();
                // A full bucket at once, and what flows in meanwhile.
                prop_assert!(within <= 2 * per_minute as usize + 1, "{within}");
            }
        }

        #[test]
        fn a_clock_that_is_set_back_holds_nobody_up_for_more_than_a_minute(back in 0_u64..10_000_000_000) {
            let empty_at = admit(0, Timestamp::from_micros(20_000_000_000), 20).unwrap();
            let earlier = 20_000_000_000 - back;
            if let Err(wait) = admit(empty_at, Timestamp::from_micros(earlier), 20) {
                prop_assert!(wait <= Duration::from_secs(60));
            }
        }
    }

    #[test]
    fn the_whole_rate_passes_at_once_and_then_one_at_a_time() {
        let at = |seconds: u64| Timestamp::from_secs(1_000 + seconds);
        let mut empty_at = 0;
        for _ in 0..20 {
            empty_at = admit(empty_at, at(0), 20).unwrap();
        }
        assert_eq!(admit(empty_at, at(0), 20), Err(Duration::from_secs(3)));
        empty_at = admit(empty_at, at(3), 20).unwrap();
        assert_eq!(admit(empty_at, at(3), 20), Err(Duration::from_secs(3)));
        assert_eq!(admit(0, at(0), 0), Err(Duration::from_secs(60)));
    }
}
