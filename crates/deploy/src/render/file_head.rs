//! The first line of each file that is written: it says whose file it is, so that a later run removes what
//! it no longer needs and nothing else.

use std::fmt;

/// What begins the line.
const START: &str = "# Written by `gantry render`: release ";
/// What ends it.
const END: &str = ". The next run overwrites it.";

/// Whose file it is: a release of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileHead {
    /// The release's name.
    pub(super) release: String,
    /// Its namespace.
    pub(super) namespace: String,
    /// The bundle's name in gantry.yaml.
    pub(super) bundle: String,
}

impl FileHead {
    /// Reads the first line of a file; `None` where Gantry did not write it. None of the three names can
    /// have a blank.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let line = text.lines().next()?.strip_prefix(START)?.strip_suffix(END)?;
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            [release, "in", namespace, "of", bundle] => Some(Self {
                release: (*release).to_owned(),
                namespace: (*namespace).to_owned(),
                bundle: (*bundle).to_owned(),
            }),
            _ => None,
        }
    }
}

impl fmt::Display for FileHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { release, namespace, bundle } = self;
        write!(f, "{START}{release} in {namespace} of {bundle}{END}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_says_whose_file_it_is() {
        let head = FileHead {
            release: "web".to_owned(),
            namespace: "shop".to_owned(),
            bundle: "all.of-it".to_owned(),
        };
        assert_eq!(FileHead::parse(&format!("{head}\nkind: X\n")), Some(head));
        assert_eq!(FileHead::parse("kind: X\n"), None);
        assert_eq!(
            FileHead::parse("# Written by `gantry policy images`: only locked ones\n"),
            None
        );
    }
}
