use super::Element;
use crate::time::Timestamp;

/// Elements and until when each is to be held, in order, in no more memory than they take themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elements(Vec<(Element, Timestamp)>);

impl Elements {
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn get(&self, element: &Element) -> Option<&Timestamp> {
        let at = self.0.binary_search_by(|(held, _)| held.cmp(element)).ok()?;
        self.0.get(at).map(|(_, expires_at)| expires_at)
    }

    #[must_use]
    pub fn contains_key(&self, element: &Element) -> bool {
        self.get(element).is_some()
    }

    pub fn keys(&self) -> impl Iterator<Item = &Element> {
        self.0.iter().map(|(element, _)| element)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Element, &Timestamp)> {
        self.0.iter().map(|(element, expires_at)| (element, expires_at))
    }
}

impl FromIterator<(Element, Timestamp)> for Elements {
    fn from_iter<I: IntoIterator<Item = (Element, Timestamp)>>(elements: I) -> Self {
        let mut elements: Vec<_> = elements.into_iter().collect();
        elements.sort_unstable();
        elements.dedup_by_key(|(element, _)| *element);
        elements.shrink_to_fit();
        Self(elements)
    }
}

impl<const N: usize> From<[(Element, Timestamp); N]> for Elements {
    fn from(elements: [(Element, Timestamp); N]) -> Self {
        elements.into_iter().collect()
    }
}
