//! Values that choose the images which an operator has compiled in (`crate::proof::compiled_in`).
//! Where a rule names such values, the overlay sets them, and the render shows whether the operator
//! gets them. The rest is reported as leftovers of their own kind, which neither an overlay nor a
//! post-renderer can move.

use serde_json::Value;

use super::relocator::Relocator;
use crate::find::{Confidence, FoundImage, LocationKind};
use crate::path::DocumentPath;
use crate::proof::relocation_proof::{MovedImage, RelocationProof};
use crate::taint::indexed_render::IndexedRender;

impl Relocator<'_> {
    /// Chooses the value that the overlay sets for each of these images, each value once. For an
    /// image that the operator only may start, a value is set if the lock has the image.
    pub(super) fn choose_operator_values(&mut self) {
        let mut chosen: Vec<Option<DocumentPath>> = Vec::new();
        for compiled in &self.learnt.operator_images {
            let found = &compiled.found;
            let is_locked =
                self.known.options.locked.is_some_and(|l| l.is_locked(&found.reference));
            let is_sure = found.confidence > Confidence::Possible || is_locked;
            let value = is_sure.then(|| self.find_value_for(found)).flatten();
            chosen.push(value.filter(|value| !chosen.contains(&Some(value.clone()))));
        }
        for (compiled, value) in self.learnt.operator_images.iter_mut().zip(chosen) {
            compiled.value = value;
        }
    }

    /// Which of the values that the rule names chooses this image and is not set yet: the only one,
    /// or the one whose key is the start of the image's name (`alertmanager` for
    /// `quay.io/prometheus/alertmanager`).
    fn find_value_for(&self, found: &FoundImage) -> Option<DocumentPath> {
        let plain = |text: &str| -> String {
            text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase()
        };
        let image = plain(found.reference.repository().rsplit('/').next().unwrap_or_default());
        let is_meant = |own: &DocumentPath| {
            let key = plain(own.last_key().unwrap_or_default());
            // A key of one or two letters would be the start of too many names.
            found.values.len() == 1 || key.len() > 2 && image.starts_with(&key)
        };
        let meant = found.values.iter().filter(|own| is_meant(own));
        meant
            .flat_map(|own| self.known.scopes.paths_in_all_charts(own).map(move |path| (own, path)))
            .find_map(|(own, path)| {
                let is_free = match path.find_value(&self.known.effective) {
                    Some(Value::Null) => true,
                    Some(Value::String(text)) => text.is_empty(),
                    Some(_) => false,
                    // Only as a new key of an existing map. At the top of a chart any name would
                    // fit, and it would belong to no template.
                    None => {
                        own.steps().len() > 1
                            && path
                                .parent()
                                .find_value(&self.known.effective)
                                .is_some_and(Value::is_object)
                    }
                };
                (is_free && self.known.scopes.allows_value(&path)).then_some(path)
            })
    }

    /// The values that the overlay sets for operators, each with the image at the site.
    pub(super) fn operator_values(&self) -> impl Iterator<Item = (&DocumentPath, String)> {
        self.learnt.operator_images.iter().filter_map(|compiled| {
            compiled.value.as_ref().map(|value| (value, compiled.target.to_string()))
        })
    }

    /// Stops setting the values that helm's message complains about. Returns whether there were
    /// any.
    pub(super) fn skip_refused_operator_values(&mut self, message: &str) -> bool {
        let mut is_named = false;
        for compiled in &mut self.learnt.operator_images {
            let value = compiled.value.as_ref();
            if value.is_some_and(|value| {
                self.known.scopes.find_message_line_about(message, value).is_some()
            }) {
                compiled.value = None;
                is_named = true;
            }
        }
        is_named
    }

    /// Stops setting values for operators.
    pub(super) fn clear_operator_values(&mut self) {
        for compiled in &mut self.learnt.operator_images {
            compiled.value = None;
        }
    }

    /// Adds to a proof the images that operators pull for the manifests of a render: from outside
    /// as leftovers, and from the site as moved.
    pub(super) fn add_operator_images(&self, after: &IndexedRender, proof: &mut RelocationProof) {
        let mut findings = after.findings_reusing(&self.learnt.before).clone();
        self.known.options.rules.apply(&after.manifests, &mut findings);
        let (target, locked) = (self.known.target, self.known.options.locked);
        proof.add_compiled_in_images(&findings, target, locked);
        let is_rule = |found: &&FoundImage| found.pattern == LocationKind::Rule;
        // A value that is set counts as moved only if the render names the image at the site and
        // the rule no longer finds the old one.
        for compiled in
            self.learnt.operator_images.iter().filter(|compiled| compiled.value.is_some())
        {
            let (from, to) = (&compiled.found.reference, &compiled.target);
            let mut all = findings.images.iter();
            let is_left = all.any(|found| is_rule(&found) && found.reference == *from);
            let found = findings.images.iter().find(|found| found.reference == *to);
            if let Some(found) = found.filter(|_| !is_left) {
                let place = found.place.clone();
                proof.moved.push(MovedImage { from: from.clone(), to: to.clone(), place });
            }
        }
    }
}
