//! `policy`: shown, compared, replaced, changed.

use super::wire::Written;
use crate::{
    Failure,
    args::{ModeName, PolicyCommand},
    cluster::{Again, Cluster},
    escape,
    moment::iso,
    output::{Format, Output, View, table},
};
use netguard_proto::v1::{ApplyPolicyRequest, GetPolicyRequest, PolicyDocument};
use serde::Serialize;
use serde_norway::{Mapping, Value};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

/// The largest policy file taken, in bytes.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Debug, Serialize)]
struct Shown {
    version: u64,
    applied_by: String,
    applied_at: Option<String>,
    applied_at_us: u64,
    policy: Value,
    #[serde(skip)]
    yaml: String,
}

impl View for Shown {
    /// A file that `policy apply` takes back.
    fn text(&self, _: u64) -> String {
        let by = if self.applied_by.is_empty() { "default".into() } else { escape::plain(&self.applied_by) };
        let at = self.applied_at.as_deref().map(|at| format!(", {at}")).unwrap_or_default();
        format!("# version {}, {by}{at}\n{}", self.version, escape::lines(&self.yaml))
    }
}

/// One setting that differs.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Change {
    setting: String,
    from: Option<String>,
    to: Option<String>,
}

#[derive(Debug, Serialize)]
struct Difference {
    version: u64,
    changes: Vec<Change>,
}

impl View for Difference {
    fn text(&self, _: u64) -> String {
        if self.changes.is_empty() {
            return format!("no difference to version {}", self.version);
        }
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "(default)".to_owned());
        let rows = self
            .changes
            .iter()
            .map(|change| [change.setting.clone(), shown(&change.from), shown(&change.to)]);
        table(["SETTING", "NOW", "THEN"], rows)
    }
}

pub(super) async fn execute(
    command: PolicyCommand,
    cluster: &mut Cluster,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    match command {
        PolicyCommand::Show { version } => {
            let document = get(version, cluster).await?;
            if output.format == Format::Yaml {
                return output.write(&escape::lines(&document.yaml));
            }
            let policy = parse("the cluster's policy", &document.yaml)?;
            output.show(&Shown {
                version: document.version,
                applied_by: document.applied_by,
                applied_at: iso(document.applied_at),
                applied_at_us: document.applied_at,
                policy: Value::Mapping(policy),
                yaml: document.yaml,
            })
        }
        PolicyCommand::Apply { file, mode, dry_run, base } => {
            let (yaml, base) = match (&file, mode) {
                (Some(file), None) => (read(file)?, base),
                (Some(file), Some(mode)) => {
                    (changed(parse(&file.display().to_string(), &read(file)?)?, &[mode_setting(mode)])?, base)
                }
                (None, Some(mode)) => {
                    let current = get(0, cluster).await?;
                    let yaml = changed(parse("the cluster's policy", &current.yaml)?, &[mode_setting(mode)])?;
                    // Made against what was read: somebody else's change in between is not overwritten.
                    (yaml, if base == 0 { current.version } else { base })
                }
                (None, None) => return Err(Failure::usage("name a file, or --mode")),
            };
            apply(yaml, base, dry_run, cluster, output).await
        }
        PolicyCommand::Set { settings, dry_run } => {
            let settings = settings.iter().map(|text| setting(text)).collect::<Result<Vec<_>, _>>()?;
            let current = get(0, cluster).await?;
            let yaml = changed(parse("the cluster's policy", &current.yaml)?, &settings)?;
            apply(yaml, current.version, dry_run, cluster, output).await
        }
        PolicyCommand::Diff { file } => {
            let then = parse(&file.display().to_string(), &read(&file)?)?;
            let current = get(0, cluster).await?;
            let now = parse("the cluster's policy", &current.yaml)?;
            output.show(&Difference { version: current.version, changes: difference(&now, &then) })
        }
    }
}

async fn get(version: u64, cluster: &mut Cluster) -> Result<PolicyDocument, Failure> {
    cluster.call(Again::Safe, async |mut client| client.get_policy(GetPolicyRequest { version }).await).await
}

async fn apply(
    yaml: String,
    base_version: u64,
    dry_run: bool,
    cluster: &mut Cluster,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let request = ApplyPolicyRequest { yaml, base_version, dry_run };
    // A second try against a base version would be refused as outdated although the first one worked.
    let again = if dry_run || base_version == 0 { Again::Safe } else { Again::Never };
    let written = cluster.call(again, async |mut client| client.apply_policy(request.clone()).await).await?;
    output.show(&Written::from(written))
}

fn read(path: &Path) -> Result<String, Failure> {
    let unreadable = |error: io::Error| Failure::usage(format!("{}: {error}", path.display()));
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    } else {
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(Failure::usage(format!("{}: is a directory", path.display())));
        }
        File::open(path)
            .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
            .map_err(unreadable)?;
    }
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Failure::usage(format!(
            "{}: larger than {MAX_BYTES} bytes; that is no policy",
            path.display()
        )));
    }
    String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{}: not UTF-8 text", path.display())))
}

/// The settings are the coordinator's to check; here only that they are a mapping.
fn parse(name: &str, yaml: &str) -> Result<Mapping, Failure> {
    match serde_norway::from_str(yaml) {
        Ok(Value::Mapping(mapping)) => Ok(mapping),
        Ok(Value::Null) => Ok(Mapping::new()),
        Ok(_) => Err(Failure::usage(format!("{name}: not a policy: it must be `setting: value` lines"))),
        Err(error) => Err(Failure::usage(format!("{name}: {error}"))),
    }
}

/// A path and what to put there.
type Setting = (Vec<String>, Value);

fn mode_setting(mode: ModeName) -> Setting {
    let mode = match mode {
        ModeName::Simulate => "simulate",
        ModeName::Enforce => "enforce",
    };
    (vec!["mode".to_owned()], mode.into())
}

/// `kinds.port_scan.threshold=30`.
fn setting(text: &str) -> Result<Setting, Failure> {
    let bad = || Failure::usage(format!("`{text}` is not of the form setting=value, like mode=enforce"));
    let (path, value) = text.split_once('=').ok_or_else(bad)?;
    let path: Vec<_> = path.split('.').map(str::to_owned).collect();
    if path.iter().any(String::is_empty) || value.is_empty() {
        return Err(bad());
    }
    match serde_norway::from_str(value) {
        Ok(value @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Null)) => Ok((path, value)),
        _ => Err(bad()),
    }
}

/// The policy with `settings` put in, as YAML.
fn changed(mut policy: Mapping, settings: &[Setting]) -> Result<String, Failure> {
    for (path, value) in settings {
        put(&mut policy, path, value.clone())?;
    }
    Ok(serde_norway::to_string(&policy).map_err(io::Error::other)?)
}

fn put(mapping: &mut Mapping, path: &[String], value: Value) -> Result<(), Failure> {
    match path {
        [] => Ok(()),
        [last] => {
            mapping.insert(last.as_str().into(), value);
            Ok(())
        }
        [first, rest @ ..] => {
            let inner =
                mapping.entry(first.as_str().into()).or_insert_with(|| Value::Mapping(Mapping::new()));
            match inner {
                Value::Mapping(inner) => put(inner, rest, value),
                _ => Err(Failure::usage(format!("`{first}` is a single setting; nothing is below it"))),
            }
        }
    }
}

/// Every setting by its path.
fn flat(mapping: &Mapping, before: &str, all: &mut BTreeMap<String, String>) {
    for (name, value) in mapping {
        let name = name.as_str().map_or_else(|| format!("{name:?}"), str::to_owned);
        let path = if before.is_empty() { name } else { format!("{before}.{name}") };
        match value {
            Value::Mapping(inner) => flat(inner, &path, all),
            // Absent and null are the same: the table's number holds.
            Value::Null => {}
            other => {
                let text = serde_norway::to_string(other).unwrap_or_default();
                all.insert(path, text.trim().to_owned());
            }
        }
    }
}

fn difference(now: &Mapping, then: &Mapping) -> Vec<Change> {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    flat(now, "", &mut before);
    flat(then, "", &mut after);
    let mut settings: Vec<_> = before.keys().chain(after.keys()).cloned().collect();
    settings.sort_unstable();
    settings.dedup();
    settings
        .into_iter()
        .map(|setting| Change {
            from: before.get(&setting).cloned(),
            to: after.get(&setting).cloned(),
            setting,
        })
        .filter(|change| change.from != change.to)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_settings_are_put_where_they_belong() {
        let policy = parse("x", "mode: simulate\nkinds:\n  port_scan:\n    weight: 60\n").unwrap();
        let settings = ["mode=enforce", "kinds.port_scan.threshold=30", "kinds.syn_flood.enabled=false"];
        let settings: Vec<_> = settings.iter().map(|text| setting(text).unwrap()).collect();
        let yaml = changed(policy, &settings).unwrap();
        assert_eq!(
            yaml,
            "mode: enforce\nkinds:\n  port_scan:\n    weight: 60\n    threshold: 30\n  syn_flood:\n    enabled: false\n"
        );
        for bad in ["mode", "=x", "mode=", "a..b=1", "a=[1]", "a={b: 1}"] {
            assert!(matches!(setting(bad), Err(Failure::Usage(_))), "{bad}");
        }
        let deep = setting("mode.x=1").unwrap();
        assert!(changed(parse("x", "mode: simulate\n").unwrap(), &[deep]).is_err());
    }

    #[test]
    fn a_difference_names_each_setting() {
        let now =
            parse("x", "mode: simulate\nact_score: 100\nkinds: {port_scan: {threshold: 15, weight: null}}\n")
                .unwrap();
        let then =
            parse("x", "act_score: 100\nmode: enforce\nkinds: {port_scan: {}, brute_force: {weight: 9}}\n")
                .unwrap();
        let change = |setting: &str, from: Option<&str>, to: Option<&str>| Change {
            setting: setting.into(),
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
        };
        assert_eq!(
            difference(&now, &then),
            [
                change("kinds.brute_force.weight", None, Some("9")),
                change("kinds.port_scan.threshold", Some("15"), None),
                change("mode", Some("simulate"), Some("enforce")),
            ]
        );
        assert!(difference(&now, &now).is_empty());
    }

    #[test]
    fn what_is_no_policy_is_refused_before_it_is_sent() {
        for bad in ["- a\n", "just text", "a: 1\na: 2\n", "a: [\n", "a: &x 1\nb: *y\n"] {
            assert!(matches!(parse("file.yaml", bad), Err(Failure::Usage(_))), "{bad}");
        }
    }
}
