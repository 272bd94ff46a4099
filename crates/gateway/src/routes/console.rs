//! `/`: the console, a page that shows the cluster. Its files are part of the binary; they need no
//! other site, and the browser is told to ask none.

use axum::extract::Path;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::openapi::{self, PROBLEM_JSON, Refused};
use crate::problem::Problem;

/// What the page may do: ask this server, and nothing else.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; object-src 'none'";

const PAGE: &str = include_str!("../../console/index.html");

/// The page's files, by name.
const FILES: &[(&str, &str, &str)] = &[
    ("console.css", "text/css; charset=utf-8", include_str!("../../console/console.css")),
    ("console.js", JAVASCRIPT, include_str!("../../console/console.js")),
    ("state.js", JAVASCRIPT, include_str!("../../console/state.js")),
    ("map.js", JAVASCRIPT, include_str!("../../console/map.js")),
    ("chart.js", JAVASCRIPT, include_str!("../../console/chart.js")),
    ("tables.js", JAVASCRIPT, include_str!("../../console/tables.js")),
    ("icon.svg", "image/svg+xml", include_str!("../../console/icon.svg")),
];

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The page: 200.
#[utoipa::path(
    get,
    path = "/",
    tag = "process",
    operation_id = "console",
    responses(
        (status = 200, description = "The console, a page for browsers", body = String,
            content_type = "text/html"),
        Refused,
    ),
)]
pub(crate) async fn page() -> Response {
    respond("text/html; charset=utf-8", PAGE)
}

/// A file of the page: 200, or 404.
#[utoipa::path(
    get,
    path = "/console/{file}",
    tag = "process",
    operation_id = "console_file",
    params(
        ("file" = String, Path, description = "The name of a file of the console"),
    ),
    responses(
        (status = 200, description = "The file", content(
            (String = "text/css"), (String = "text/javascript"), (String = "image/svg+xml"))),
        (status = 404, description = "There is no such file", body = openapi::Problem,
            content_type = PROBLEM_JSON),
        Refused,
    ),
)]
pub(crate) async fn file(Path(name): Path<String>) -> Result<Response, Problem> {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some((_, media_type, text)) => Ok(respond(media_type, text)),
        None => {
            let title = "There is nothing at this path";
            let detail = "the console has no such file";
            Err(Problem::new(StatusCode::NOT_FOUND, "no-such-path", title, detail))
        }
    }
}

fn respond(media_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_only_files_that_there_are() {
        let mut named = 0;
        for rest in PAGE.split("\"/console/").skip(1) {
            let name = rest.split('"').next().unwrap_or_default();
            assert!(FILES.iter().any(|(known, ..)| *known == name), "{name}");
            named += 1;
        }
        assert!(named >= 3, "{named}");
    }

    /// The colours of the style sheet, each for light and dark.
    fn colours() -> std::collections::BTreeMap<&'static str, [u32; 2]> {
        let css = include_str!("../../console/console.css");
        let pair = |line: &'static str| {
            let (name, rest) = line.trim().strip_prefix("--")?.split_once(": light-dark(#")?;
            let (light, rest) = rest.split_once(", #")?;
            let hex = |text: &str| u32::from_str_radix(text, 16).expect("hex digits");
            Some((name, [hex(light), hex(rest.strip_suffix(");")?)]))
        };
        css.lines().filter_map(pair).collect()
    }

    /// The contrast of two colours as WCAG 2.2 defines it.
    fn contrast(a: u32, b: u32) -> f64 {
        let linear = |byte: u32| {
            let share = f64::from(byte) / 255.0;
            if share <= 0.04045 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
        };
        let luminance = |rgb: u32| {
            let [_, red, green, blue] = rgb.to_be_bytes().map(|byte| linear(byte.into()));
            0.2126 * red + 0.7152 * green + 0.0722 * blue
        };
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn contrast_is_that_of_level_aa() {
        assert!((contrast(0, 0xff_ff_ff) - 21.0).abs() < 0.01);
        let colours = colours();
        assert_eq!(colours.len(), include_str!("../../console/console.css").matches(" --").count());
        let texts = ["text", "quiet", "good", "bad", "warn", "read", "write"];
        let text = texts.into_iter().flat_map(|name| [(name, "surface", 4.5), (name, "page", 4.5)]);
        let marks = ["size-1", "size-2", "size-3", "size-4", "size-5", "line", "focus"];
        let mark = marks.into_iter().map(|name| (name, "surface", 3.0));
        let others = [("on-banner", "banner", 4.5), ("focus", "page", 3.0)];
        for (name, ground, least) in text.chain(mark).chain(others) {
            for (theme, at) in [("light", 0), ("dark", 1)] {
                let found = contrast(colours[name][at], colours[ground][at]);
                assert!(found >= least, "{theme}: {name} on {ground}: {found:.2} of {least}");
            }
        }
    }

    #[test]
    fn no_file_names_another_site() {
        for (name, _, text) in FILES.iter().chain(&[("index.html", "", PAGE)]) {
            // The names of XML vocabularies are no addresses that anybody asks.
            let text = text.replace("http://www.w3.org/", "");
            assert!(!text.contains("://"), "{name}");
        }
    }
}
