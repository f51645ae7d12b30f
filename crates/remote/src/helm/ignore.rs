//! Evaluates `.helmignore` exactly as helm does (helm 3.22, pkg/ignore/rules.go), which differs
//! from `.gitignore`: the first rule that matches decides, a negative rule (`!x`) ignores
//! everything that it does *not* match, and `**` is an error.

use globset::{GlobBuilder, GlobMatcher};

use crate::{Error, Result};

/// The rule that helm always adds.
const DEFAULT: &str = "templates/.?*";

/// The rules of one chart.
pub(super) struct HelmIgnoreRules(Vec<HelmIgnoreRule>);

/// One line of the file.
struct HelmIgnoreRule {
    glob: GlobMatcher,
    negative: bool,
    only_folders: bool,
    /// Whether the whole path is compared instead of the last segment.
    whole_path: bool,
}

/// Whether a path is a folder or a file: some rules match folders only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChartPathKind {
    Folder,
    File,
}

impl HelmIgnoreRules {
    /// Parses the rules; `what` is the file's name in errors.
    pub(super) fn parse(what: &str, text: &str) -> Result<Self> {
        let rules = text
            .trim_start_matches('\u{feff}')
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .chain([DEFAULT])
            .map(|line| {
                HelmIgnoreRule::parse(line)
                    .map_err(|reason| Error::invalid_document(what, format!("{line:?}: {reason}")))
            })
            .collect::<Result<_>>()?;
        Ok(Self(rules))
    }

    /// Whether helm would leave out the path.
    pub(super) fn is_ignored(&self, path: &str, entry: ChartPathKind) -> bool {
        for rule in &self.0 {
            // The rules are tried in order, and the first one that applies decides, as in helm.
            let wrong_kind = rule.only_folders && entry == ChartPathKind::File;
            if rule.negative {
                if wrong_kind || !rule.matches(path) {
                    return true;
                }
            } else if !wrong_kind && rule.matches(path) {
                return true;
            }
        }
        false
    }
}

impl HelmIgnoreRule {
    fn parse(line: &str) -> Result<Self, String> {
        if line.contains("**") {
            return Err("helm does not support the pattern **".into());
        }
        let (negative, rest) = match line.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        let (only_folders, rest) = match rest.strip_suffix('/') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let whole_path = rest.contains('/');
        let pattern = rest.strip_prefix('/').unwrap_or(rest);
        // Go's filepath.Match has no braces.
        let pattern = pattern.replace('{', "[{]").replace('}', "[}]");
        let glob = GlobBuilder::new(&pattern)
            .literal_separator(true)
            .build()
            .map_err(|error| error.kind().to_string())?
            .compile_matcher();
        Ok(Self { glob, negative, only_folders, whole_path })
    }

    fn matches(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        self.glob.is_match(if self.whole_path { path } else { name })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rules_mean_what_they_mean_to_helm() {
        // Rows of helm's own pkg/ignore/rules_test.go.
        for (rules, path, entry, expected) in [
            ("helm.txt", "helm.txt", ChartPathKind::File, true),
            ("helm.*", "helm.txt", ChartPathKind::File, true),
            ("helm.*", "rudder.txt", ChartPathKind::File, false),
            ("*.txt", "templates/a.txt", ChartPathKind::File, true),
            ("cargo/*.txt", "cargo/a.txt", ChartPathKind::File, true),
            ("cargo/", "cargo", ChartPathKind::Folder, true),
            ("cargo/", "cargo", ChartPathKind::File, false),
            ("/cargo", "mast/cargo", ChartPathKind::File, false),
            ("", "templates/.dotfile", ChartPathKind::File, true),
            ("", "templates/deployment.yaml", ChartPathKind::File, false),
            ("!helm.txt", "rudder.txt", ChartPathKind::File, true),
            ("!helm.txt", "helm.txt", ChartPathKind::File, false),
            ("# comment\n\n.git/\n", ".git", ChartPathKind::Folder, true),
        ] {
            let parsed = HelmIgnoreRules::parse(".helmignore", rules).unwrap();
            assert_eq!(parsed.is_ignored(path, entry), expected, "{rules:?} {path}");
        }
        assert!(HelmIgnoreRules::parse(".helmignore", "a/**").is_err());
    }
}
