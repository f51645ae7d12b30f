//! Images that no manifest names because an operator has them compiled in. Where the rule that
//! knows of one names values of the chart that choose it, the overlay sets them, and the render
//! shows whether the operator is told; what is left is a leftover of its own kind, which neither
//! an overlay nor a post-renderer moves.

use serde::Serialize;
use serde_json::Value;
use types::Reference;

use super::prove::{Moved, Proof};
use super::{Mover, Rendered};
use crate::find::{Confidence, Found, Pattern, Place};
use crate::path::Path;

/// An image that an operator pulls from where it was told when it was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CompiledIn {
    /// The image.
    pub image: Reference,
    /// The name that it has at the site.
    pub to: Reference,
    /// The document that makes the operator pull it.
    pub place: Place,
    /// Values that may choose another image, says the rule.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<Path>,
    /// The rule's reason.
    pub why: String,
}

impl CompiledIn {
    /// Why it is pulled, and what chooses another, in a sentence or two.
    pub fn reason(&self) -> String {
        let values: Vec<String> = self.values.iter().map(ToString::to_string).collect();
        match values.as_slice() {
            [] => self.why.clone(),
            _ => format!("{} Values that choose another: {}.", self.why, values.join(", ")),
        }
    }
}

/// A find of a rule, and the value that is set for it.
pub(super) struct Compiled {
    pub(super) found: Found,
    pub(super) target: Reference,
    pub(super) value: Option<Path>,
}

impl Compiled {
    pub(super) fn new(found: &Found, target: Reference) -> Self {
        Self { found: found.clone(), target, value: None }
    }
}

impl Mover<'_> {
    /// Chooses for each image the value that the overlay will set. What is only possible is set
    /// when the lock says that somebody wants it.
    pub(super) fn choose_compiled(&mut self) {
        let mut chosen: Vec<Option<Path>> = Vec::new();
        for compiled in &self.compiled {
            let found = &compiled.found;
            let is_locked = self.options.locked.is_some_and(|l| l.has(&found.reference));
            let is_sure = found.confidence > Confidence::Possible || is_locked;
            let value = is_sure.then(|| self.value_for(found)).flatten();
            chosen.push(value.filter(|value| !chosen.contains(&Some(value.clone()))));
        }
        for (compiled, value) in self.compiled.iter_mut().zip(chosen) {
            compiled.value = value;
        }
    }

    /// The value of those that the rule names that is free and speaks of this image: the only one,
    /// or the one whose key is how the image's name starts.
    fn value_for(&self, found: &Found) -> Option<Path> {
        let plain = |text: &str| -> String {
            text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase()
        };
        let image = plain(found.reference.repository().rsplit('/').next().unwrap_or_default());
        let is_meant = |own: &Path| {
            let key = plain(own.last_key().unwrap_or_default());
            found.values.len() == 1 || key.len() > 2 && image.starts_with(&key)
        };
        let meant = found.values.iter().filter(|own| is_meant(own));
        meant.flat_map(|own| self.scopes.places(own).map(move |path| (own, path))).find_map(
            |(own, path)| {
                let is_free = match path.find(&self.effective) {
                    Some(Value::Null) => true,
                    Some(Value::String(text)) => text.is_empty(),
                    Some(_) => false,
                    // A key of a map that is there; at the top of a chart it would be anybody's.
                    None => {
                        own.steps().len() > 1
                            && path.parent().find(&self.effective).is_some_and(Value::is_object)
                    }
                };
                (is_free && self.scopes.admits(&path)).then_some(path)
            },
        )
    }

    /// The values that the overlay sets for operators, and to what.
    pub(super) fn compiled_values(&self) -> impl Iterator<Item = (&Path, String)> {
        self.compiled.iter().filter_map(|compiled| {
            compiled.value.as_ref().map(|value| (value, compiled.target.to_string()))
        })
    }

    /// Sets no longer what helm's message is about.
    pub(super) fn leave_compiled(&mut self, message: &str) -> bool {
        let mut is_named = false;
        for compiled in &mut self.compiled {
            let value = compiled.value.as_ref();
            if value.is_some_and(|value| self.scopes.line_about(message, value).is_some()) {
                compiled.value = None;
                is_named = true;
            }
        }
        is_named
    }

    pub(super) fn clear_compiled(&mut self) {
        for compiled in &mut self.compiled {
            compiled.value = None;
        }
    }

    /// Adds to a proof what operators will pull for the manifests of a render.
    pub(super) fn prove_compiled(&self, after: &Rendered, proof: &mut Proof) {
        let mut findings = after.findings_beside(&self.before).clone();
        self.options.rules.apply(&after.manifests, &mut findings);
        let is_rule = |found: &&Found| found.pattern == Pattern::Rule;
        for found in findings.images.iter().filter(is_rule) {
            let image = &found.reference;
            if self.target.is_home(image) {
                continue;
            }
            // A name that is no image's at the site was refused before the first overlay.
            let Ok(to) = self.target.prefix.target(self.target.naming, image) else { continue };
            let compiled = CompiledIn {
                image: image.clone(),
                to,
                place: found.place.clone(),
                values: found.values.clone(),
                why: found.note.clone().unwrap_or_default(),
            };
            if found.confidence > Confidence::Possible {
                proof.compiled_in.push(compiled);
            } else {
                proof.possible.push(compiled);
            }
        }
        for compiled in self.compiled.iter().filter(|compiled| compiled.value.is_some()) {
            let (from, to) = (&compiled.found.reference, &compiled.target);
            let mut all = findings.images.iter();
            let is_left = all.any(|found| is_rule(&found) && found.reference == *from);
            let found = findings.images.iter().find(|found| found.reference == *to);
            if let Some(found) = found.filter(|_| !is_left) {
                let place = found.place.clone();
                proof.moved.push(Moved { from: from.clone(), to: to.clone(), place });
            }
        }
    }
}
