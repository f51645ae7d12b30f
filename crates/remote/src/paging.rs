//! Lists that a server gives in pages: tags, referrers, the files of a model. Every one of them is
//! read to its end by [`PageReader`], or refused: a part of a list would look like all of it.

use net::{Client, HttpRequest, HttpResponse, RepeatPolicy};

use crate::{Error, Result};

/// Limit for the pages of one list. The longest real ones (a Hub repository of 100,000 files, a
/// registry that gives ten tags a page) stay below a tenth of it.
const MAX_PAGES: usize = 10_000;

/// Reads a list page by page: each response names the next page in
/// `Link: <…>; rel="next"` (RFC 8288).
pub(crate) struct PageReader<'a> {
    client: &'a Client,
    what: String,
    next: Option<HttpRequest>,
    link: String,
    pages: usize,
}

impl<'a> PageReader<'a> {
    /// A reader that begins with this request. `what` is the list's name in errors.
    pub(crate) fn new(client: &'a Client, first: HttpRequest, what: &str) -> Self {
        Self { client, what: what.to_owned(), next: Some(first), link: String::new(), pages: 0 }
    }

    /// Requests the next page; `None` after the last one. The response may be a refusal: its
    /// status is for the caller to judge.
    ///
    /// # Errors
    /// [`Error::EndlessList`] for a server that names ever more pages, or the same one again.
    pub(crate) async fn request_page(&mut self) -> Result<Option<HttpResponse>> {
        let Some(request) = self.next.take() else { return Ok(None) };
        self.pages += 1;
        let response = self
            .client
            .send(&request, RepeatPolicy::Safe)
            .await
            .map_err(Error::from_net(&self.what))?;
        let Some(link) = response.header("link").and_then(find_next_link) else {
            return Ok(Some(response));
        };
        if link == self.link || self.pages >= MAX_PAGES {
            return Err(self.endless_list(format!("{} pages", self.pages)));
        }
        let mut next = request;
        next.follow_location(link).map_err(Error::from_net(&self.what))?;
        link.clone_into(&mut self.link);
        self.next = Some(next);
        Ok(Some(response))
    }

    /// Whether the page that was requested last is the first one.
    pub(crate) fn is_first(&self) -> bool {
        self.pages <= 1
    }

    /// Refuses a list whose entries exceed the limit of its kind.
    pub(crate) fn check_length(&self, entries: usize, most: usize) -> Result<()> {
        if entries > most {
            return Err(self.endless_list(format!("{most} entries")));
        }
        Ok(())
    }

    fn endless_list(&self, read: String) -> Error {
        Error::EndlessList { what: self.what.clone(), read }
    }
}

/// The target of the link with the relation `next`. The header may have several links, separated by
/// commas; quotes around the relation are optional (RFC 8288, section 3).
fn find_next_link(header: &str) -> Option<&str> {
    let mut rest = header;
    loop {
        let (target, after) = rest.split_once('<')?.1.split_once('>')?;
        // Parameters end where the next link begins: a target may have commas, but only inside <>.
        let end = after.find('<').unwrap_or(after.len());
        let is_next = after[..end].split([';', ',']).any(|parameter| {
            parameter.split_once('=').is_some_and(|(name, value)| {
                name.trim().eq_ignore_ascii_case("rel")
                    && value.trim().trim_matches('"').split(' ').any(|relation| relation == "next")
            })
        });
        if is_next {
            return Some(target);
        }
        rest = &after[end..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_in_every_form_of_the_header() {
        for (header, expected) in [
            (r#"</v2/a/tags/list?last=x&n=50>; rel="next""#, Some("/v2/a/tags/list?last=x&n=50")),
            ("<https://h/x?cursor=a,b>; rel=next", Some("https://h/x?cursor=a,b")),
            (r#"</1>; rel="first", </3>; title="a"; rel="next""#, Some("/3")),
            (r#"</3>;rel="prev next""#, Some("/3")),
            (r#"</1>; rel="prev""#, None),
            ("nothing", None),
            ("", None),
        ] {
            assert_eq!(find_next_link(header), expected, "{header}");
        }
    }
}
