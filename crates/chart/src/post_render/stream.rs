//! Moves the images of a rendered stream.

use std::collections::{BTreeMap, BTreeSet};

use types::Reference;
use types::site_content::SiteContent;

use super::mentions;
use crate::edit::rewrite::{ReplacedWord, TextReplacement, rewrite_document};
use crate::find::{Confidence, PartRole};
use crate::manifest::Manifests;
use crate::proof::expected_changes::ExpectedChanges;
use crate::proof::prove::prove_relocation;
use crate::proof::relocation_proof::RelocationProof;
use crate::proof::unlocked_images::list_unlocked_images;
use crate::site_digests::{list_unconfirmed_digests, with_site_digest};
use crate::taint::image_move::ImageMove;
use crate::taint::indexed_render::IndexedRender;
use crate::target::RelocationTarget;
use crate::{OperatorRules, Result};

/// The result of post-rendering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostRenderedStream {
    /// The edited stream, to be passed on to helm.
    pub stream: String,
    /// The proof, from comparing it with the original stream.
    pub proof: RelocationProof,
}

/// Moves every image of a rendered stream to the site. Fails if the stream has a document that is
/// not valid YAML, or if two images would get the same name at the site.
pub fn post_render(stream: &str, target: &RelocationTarget) -> Result<PostRenderedStream> {
    post_render_with_rules(stream, target, &OperatorRules::default(), None)
}

/// Moves every image of a rendered stream to the site. `rules` say what operators will pull in
/// addition; with `locked`, the proof names the images that are not in the lock.
pub fn post_render_with_rules(
    stream: &str,
    target: &RelocationTarget,
    rules: &OperatorRules,
    locked: Option<&SiteContent>,
) -> Result<PostRenderedStream> {
    let before = IndexedRender::new(Manifests::read_render(stream).require_readable()?);
    let mut edited = stream.to_owned();
    let mut after: Option<IndexedRender> = None;
    let (mut sites, mut known) = (Vec::<ImageMove>::new(), BTreeSet::new());
    // Moving one reference may reveal another: a finder reports a location once, and the same text
    // may hold the same image in another spelling. Usually there are two rounds, and the second
    // finds nothing.
    for _ in 0..ROUNDS {
        let now = after.as_ref().unwrap_or(&before);
        let round = find_outside_images(now, &before, target, locked)?;
        let moved = move_images(&edited, &now.manifests, &round);
        // The proof needs each location once, with the text that it had when it was found first.
        for site in round {
            let place = &site.found.place;
            if known.insert((place.document, place.path.clone(), site.text.clone())) {
                sites.push(site);
            }
        }
        if moved == edited {
            break;
        }
        edited = moved;
        after = Some(IndexedRender::new(Manifests::read_reusing(&edited, &before.manifests)));
    }
    let is_home = |reference: &Reference| target.is_site_image(reference);
    let after = after.as_ref().unwrap_or(&before);
    let mut proof = prove_relocation(&before, after, &sites, &ExpectedChanges::default(), &is_home);
    let mut findings = after.findings().clone();
    rules.apply(&after.manifests, &mut findings);
    proof.add_compiled_in_images(&findings, target, locked);
    if let Some(locked) = locked {
        // What the stream points at the site already is loaded only if it is locked.
        let all = before.findings().images.iter();
        let at_site = all.filter(|found| target.is_site_image(&found.reference));
        let outside = sites.iter().map(|site| &site.found);
        proof.not_locked = list_unlocked_images(outside.chain(at_site), locked);
        let named = findings.images.iter().filter(|found| is_home(&found.reference));
        proof.unconfirmed =
            list_unconfirmed_digests(named.map(|found| (&found.reference, &found.place)), locked);
    }
    Ok(PostRenderedStream { stream: edited, proof })
}

/// The most rounds of searching and editing. What is left after them refutes the proof.
const ROUNDS: usize = 4;

/// Finds everything that points outside the site: images, and texts that mention them.
fn find_outside_images(
    now: &IndexedRender,
    before: &IndexedRender,
    target: &RelocationTarget,
    locked: Option<&SiteContent>,
) -> Result<Vec<ImageMove>> {
    // An edited stream is compared with the original, whose unchanged documents are known already.
    let findings =
        if std::ptr::eq(now, before) { now.findings() } else { now.findings_reusing(before) };
    let outside: Vec<_> =
        findings.images.iter().filter(|found| !target.is_site_image(&found.reference)).collect();
    // As in a relocation: what is only possible does not collide.
    let sure = outside.iter().filter(|found| found.confidence > Confidence::Possible);
    let names = target.prefix.site_references(target.naming, sure.map(|found| &found.reference))?;
    let name = |reference: &Reference| match names.get(reference) {
        Some(name) => Some(name.clone()),
        None => target.prefix.site_reference(target.naming, reference).ok(),
    };
    let mut sites: Vec<ImageMove> = outside
        .into_iter()
        .filter_map(|found| {
            let name = name(&found.reference)?;
            Some(ImageMove::new(found, with_site_digest(name, &found.reference, locked)))
        })
        .collect();
    let more = mentions::find_mentions(&now.manifests, &sites);
    sites.extend(more);
    Ok(sites)
}

/// Edits the stream: replaces the references at all of these locations.
fn move_images(stream: &str, manifests: &Manifests, sites: &[ImageMove]) -> String {
    let mut by_document: BTreeMap<usize, Vec<&ImageMove>> = BTreeMap::new();
    for site in sites {
        by_document.entry(site.found.place.document).or_default().push(site);
    }
    let mut edited = String::with_capacity(stream.len());
    let mut copied = 0;
    for (index, range) in manifests.document_ranges(stream).into_iter().enumerate() {
        let own = by_document.remove(&index).unwrap_or_default().into_iter();
        let texts: Vec<_> = own.map(|site| (site, build_replacements(site))).collect();
        let wants: Vec<TextReplacement> = texts
            .iter()
            .flat_map(|(site, texts)| {
                site.found.parts.iter().zip(texts).filter_map(|(part, to)| {
                    let is_name = !matches!(part.role, PartRole::Whole | PartRole::Digest)
                        || mentions::is_mention(site);
                    Some(TextReplacement {
                        steps: part.path.steps(),
                        from: &part.text,
                        to: to.as_deref()?,
                        word: if is_name { ReplacedWord::Name } else { ReplacedWord::Reference },
                    })
                })
            })
            .collect();
        if !wants.is_empty() {
            edited.push_str(&stream[copied..range.start]);
            edited.push_str(&rewrite_document(&stream[range.clone()], &wants));
            copied = range.end;
        }
    }
    edited.push_str(&stream[copied..]);
    edited
}

/// The new text of each part of a reference; `None` where it stays. Tags always stay, and digests
/// where the site has the same index.
/// If the name has several parts, `registry: q.io, repository: o/app`, and the name at the site
/// ends in the later ones (`site:5000/ai/o/app`), only the first changes (`site:5000/ai`).
/// Otherwise, if there are two, the last one becomes the last segment of the name at the site, and
/// the first one all before it.
fn build_replacements(site: &ImageMove) -> Vec<Option<String>> {
    let mut wanted = vec![None; site.found.parts.len()];
    let names: Vec<usize> = (0..wanted.len())
        .filter(|part| !matches!(site.found.parts[*part].role, PartRole::Tag | PartRole::Digest))
        .collect();
    let [first, rest @ ..] = names.as_slice() else { return wanted };
    let mut name = site.wanted.as_str();
    if let Some((part, text)) = site.digest_part() {
        name = name.strip_suffix(&format!("@{text}")).unwrap_or(name);
        let at = site.found.parts.iter().position(|other| other.path == part.path);
        if let Some(at) = at {
            wanted[at] = Some(text);
        }
    }
    let tail = rest.iter().fold(String::new(), |tail, part| {
        format!("{tail}/{}", site.found.parts[*part].text.trim_matches('/'))
    });
    if let Some(head) = name.strip_suffix(&tail) {
        // `registry: quay.io/` keeps its slash.
        let slash = if site.found.parts[*first].text.ends_with('/') { "/" } else { "" };
        wanted[*first] = Some(format!("{head}{slash}"));
    } else if let ([last], Some((head, name))) = (rest, name.rsplit_once('/')) {
        wanted[*first] = Some(head.to_owned());
        wanted[*last] = Some(name.to_owned());
    }
    wanted
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use base64::Engine as _;
    use types::naming::NamingRule;
    use types::site::RegistryTarget;

    use super::*;
    use crate::proof::relocation_proof::ProofVerdict;

    fn site_target() -> RelocationTarget {
        RelocationTarget {
            prefix: "site:5000/ai".parse().unwrap(),
            naming: types::naming::NamingRule::Path,
            pull_secret: None,
        }
    }

    #[test]
    fn images_are_moved_in_place_and_everything_else_stays_byte_for_byte() {
        let stream = "---\n# Source: a/templates/x.yaml\nkind: Pod\nspec:\n  # by hand\n  containers:\n  \
            - image: \"alpine:3.19\"\n    args: [--x-image=ghcr.io/a/b:1, --mode=0644]\n---\nkind: X\n\
            apiVersion: x.y/v1\nspec:\n  driver: {repository: nvcr.io/nvidia, image: driver, version: '5'}\n";
        let after = post_render(stream, &site_target()).unwrap();
        assert_eq!(after.proof.verdict(), ProofVerdict::Proven, "{:?}", after.proof);
        let expected = stream
            .replace("alpine:3.19", "site:5000/ai/library/alpine:3.19")
            .replace("ghcr.io/a/b", "site:5000/ai/a/b")
            .replace("nvcr.io/nvidia", "site:5000/ai/nvidia");
        assert_eq!(after.stream, expected);
    }

    #[test]
    fn a_secret_is_opened_and_closed_again() {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let values = "a:\n  image: quay.io/x/y:1\nb:\n  image: {name: quay.io/x/z, tag: 2}\n";
        let stream = format!("kind: Secret\ndata:\n  v: {}\n", encode(values));
        let after = post_render(&stream, &site_target()).unwrap();
        assert_eq!(after.proof.verdict(), ProofVerdict::Proven, "{:?}", after.proof);
        assert_eq!(
            after.stream.matches(&encode(&values.replace("quay.io", "site:5000/ai"))).count(),
            1
        );
    }

    #[test]
    fn a_secret_on_several_lines_stays_a_block() {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let plain = format!("worker:\n  image: quay.io/x/y:1\n  more: {}\n", "x".repeat(60));
        let (first, last) = (encode(&plain), encode(&plain).split_off(76));
        let stream =
            format!("kind: Secret\ndata:\n  v: |\n    {}\n    {last}\n  w: eA==\n", &first[..76]);
        let new = encode(&plain.replace("quay.io", "site:5000/ai"));
        assert_eq!(
            post_render_proven(&stream),
            format!("kind: Secret\ndata:\n  v: |\n    {new}\n  w: eA==\n")
        );
    }

    #[test]
    fn what_is_moved_already_is_left_alone() {
        let stream = "kind: Pod\nspec: {containers: [{image: 'site:5000/ai/a/b:1'}]}\n";
        assert_eq!(post_render(stream, &site_target()).unwrap().stream, stream);
    }

    fn post_render_proven(stream: &str) -> String {
        let after = post_render(stream, &site_target()).unwrap();
        assert_eq!(
            after.proof.verdict(),
            ProofVerdict::Proven,
            "{:#?}\n{}",
            after.proof,
            after.stream
        );
        let again = post_render(&after.stream, &site_target()).unwrap();
        assert_eq!(again.stream, after.stream, "once is enough");
        after.stream
    }

    #[test]
    fn a_word_that_is_an_image_here_is_a_name_there() {
        let stream = "# redis\nkind: Pod\nmetadata: {name: redis, labels: {app: redis}}\nspec:\n  \
            containers:\n  - name: redis # the image redis\n    image: redis\n    command: [redis]\n";
        let expected = stream.replace("image: redis\n", "image: site:5000/ai/library/redis\n");
        assert_eq!(post_render_proven(stream), expected);
    }

    #[test]
    fn every_way_to_write_a_text_keeps_its_way() {
        let stream = "kind: Pod\nspec:\n  containers:\n  - {image: 'q.io/a/b:1'}\n  - image: \"q.io/a/\\x62:2\"\n  \
            - image: >-\n      q.io/a/b:3\n  - image: &i q.io/a/b:4\n    name: x\n  - image: *i\n    env:\n    \
            - {name: IMAGE, value: *i}\n  - {image: q.io/a/b:5, name: \"1\", n: 0x10, o: 1.50}\n";
        let expected = stream
            .replace("q.io/a/\\x62:2", "site:5000/ai/a/b:2")
            .replace("*i", "site:5000/ai/a/b:4")
            .replace("q.io/a/b", "site:5000/ai/a/b");
        assert_eq!(post_render_proven(stream), expected);
    }

    #[test]
    fn texts_inside_of_texts_are_changed_where_the_image_stands_and_nowhere_else() {
        let stream = "\
kind: ConfigMap
metadata: {name: redis}
data:
  values.yaml: |
    # redis:7 is the cache
    redis:
      image: redis:7   # keep
      name: 'redis:7'
  pod.json: '{\"kind\": \"Pod\", \"spec\": {\"containers\": [{\"name\": \"redis\", \"image\": \"redis\"}]}}'
  app.toml: |
    title = \"o/redis:7\"
    [worker]
    image = \"o/redis:7\" # here
  app.ini: |
    [worker]
    image = redis:7
    name = redis:7
  run.sh: |
    #!/bin/sh
    # pulls ghcr.io/o/app, see ghcr.io/o/app-docs
    docker run --image ghcr.io/o/app:1.
  allowed: ghcr.io/o/app
";
        let expected = stream
            .replace("image: redis:7 ", "image: site:5000/ai/library/redis:7 ")
            .replace("\"image\": \"redis\"", "\"image\": \"site:5000/ai/library/redis\"")
            .replace("image = \"o/redis:7\"", "image = \"site:5000/ai/o/redis:7\"")
            .replace("image = redis:7", "image = site:5000/ai/library/redis:7")
            .replace("ghcr.io/o/app,", "site:5000/ai/o/app,")
            .replace("ghcr.io/o/app:", "site:5000/ai/o/app:")
            .replace("allowed: ghcr.io/o/app", "allowed: site:5000/ai/o/app");
        assert_eq!(post_render_proven(stream), expected);
    }

    #[test]
    fn parts_that_stand_apart_are_moved_under_every_naming() {
        let stream = "kind: X\napiVersion: x.y/v1\nspec:\n  a: {registry: q.io, repository: o/app, tag: '1'}\n  \
            b: {registry: q.io/, repository: other, tag: '1'}\n  c: {hub: docker.io/istio, tag: 1.2, image: pilot, name: x}\n";
        for naming in [NamingRule::Path, NamingRule::HostPath, NamingRule::Name] {
            let target = RelocationTarget { naming, ..site_target() };
            let after = post_render(stream, &target).unwrap();
            assert_eq!(
                after.proof.verdict(),
                ProofVerdict::Proven,
                "{:#?}\n{}",
                after.proof,
                after.stream
            );
        }
    }

    #[test]
    fn a_digest_that_is_another_one_at_the_site_is_written_in_texts_and_fields_alike() {
        let (old, new) = ("ab".repeat(32), "cd".repeat(32));
        let lock = format!(
            "version: 1\nname: l\nplatforms: []\nimages:\n- {{reference: 'q.io/o/app:1', digest: \
             'sha256:{old}', mediaType: m, size: 1, platforms: [], manifests: [], seen: []}}\n"
        );
        let receipt = format!(
            r#"{{"version": 1, "target": "site:5000/ai", "blobs": [], "roots": [{{"name": "q.io/o/app:1",
            "kind": "image", "digest": "sha256:{old}", "target": "site:5000/ai/o/app:1",
            "rewritten": "sha256:{new}"}}]}}"#
        );
        let locks = [types::lock::Lock::parse("gantry.lock", &lock).unwrap()];
        let receipts = [types::receipt::Receipt::parse("r", &receipt).unwrap()];
        let registry =
            RegistryTarget::from_prefix(&"site:5000/ai".parse().unwrap(), NamingRule::Path);
        let stream = format!(
            "kind: Pod\nspec: {{containers: [{{image: 'q.io/o/app:1@sha256:{old}', args: \
             [--x-image=q.io/o/app@sha256:{old}]}}]}}\n---\nkind: X\napiVersion: x.y/v1\nspec:\n  \
             a: {{registry: q.io, repository: o/app, tag: '1', digest: 'sha256:{old}'}}\n"
        );
        let rules = OperatorRules::default();
        let post_render = |receipts: &[types::receipt::Receipt]| {
            let content = SiteContent::new(&locks, receipts, &registry).unwrap();
            post_render_with_rules(&stream, &site_target(), &rules, Some(&content)).unwrap()
        };

        let after = post_render(&receipts);

        assert_eq!(after.proof.verdict(), ProofVerdict::Proven, "{:#?}", after.proof);
        let expected = stream
            .replace(&old, &new)
            .replace("q.io/o/app", "site:5000/ai/o/app")
            .replace("registry: q.io", "registry: site:5000/ai");
        assert_eq!(after.stream, expected);
        let unknown = post_render(&[]);
        assert_eq!(unknown.proof.verdict(), ProofVerdict::Unconfirmed, "{:#?}", unknown.proof);
        assert!(unknown.proof.unconfirmed.iter().all(|one| !one.is_absent));
    }

    #[test]
    fn what_the_lock_does_not_have_and_what_operators_pull_is_named() {
        let stream = "kind: Pod\nmetadata: {name: p}\nspec: {containers: [{image: 'q.io/a/b:1'}, {image: 'site:5000/ai/x:1'}]}\n";
        let registry =
            RegistryTarget::from_prefix(&"site:5000/ai".parse().unwrap(), NamingRule::Path);
        let none = SiteContent::new(&[], &[], &registry).unwrap();
        let after =
            post_render_with_rules(stream, &site_target(), OperatorRules::builtin(), Some(&none))
                .unwrap();
        let missing: Vec<String> =
            after.proof.not_locked.iter().map(|missing| missing.image.to_string()).collect();
        assert_eq!(missing, ["q.io/a/b:1", "site:5000/ai/x:1"]);
    }

    #[test]
    fn a_broken_stream_is_an_error_and_an_empty_one_is_not() {
        assert!(post_render("kind: A\n---\na: b: c\n", &site_target()).is_err());
        assert_eq!(post_render_proven(""), "");
        assert_eq!(post_render_proven("---\n# nothing\n"), "---\n# nothing\n");
    }
}
