//! The picture as a page that needs nothing else: the SVG, a box to search in, and every rule in a table.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::Graph;
use super::words::{cut, escaped};
use crate::rules::Mode;

impl Graph {
    /// A page without anything from elsewhere; its policy for content lets only its own script run.
    #[must_use]
    pub fn html(&self) -> String {
        let policy = format!(
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
            base64(&Sha256::digest(SCRIPT.as_bytes()))
        );
        let mut rows = String::new();
        for edge in &self.edges {
            let ((from, _), (to, _)) = (self.node(edge.from), self.node(edge.to));
            let mode = match edge.mode {
                Mode::Enforce => "",
                Mode::Audit | Mode::Mark => " (audit)",
            };
            let narrowed: Vec<&str> = edge.narrowed.iter().take(MOST_NAMED).map(String::as_str).collect();
            for call in edge.calls.iter().take(MOST_CALLS) {
                let cells = [from, to, &call.what, &format!("{}{mode}", call.rule), &call.origin, &narrowed.join(", ")];
                let cells: String = cells.map(|cell| format!("<td>{}</td>", escaped(&cut(cell, MOST_SHOWN)))).concat();
                let _ = writeln!(rows, "<tr>{cells}</tr>");
            }
            if edge.calls.len() > MOST_CALLS {
                let more = format!("and {} rules more", edge.calls.len() - MOST_CALLS);
                let _ = writeln!(rows, "<tr><td>{}</td><td>{}</td><td>{more}</td></tr>", escaped(from), escaped(to));
            }
        }
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Who may call whom</title>\n\
             <style>{STYLE}</style>\n</head>\n<body>\n<h1>Who may call whom</h1>\n\
             <p><label>Show <input id=\"search\" type=\"search\" placeholder=\"a caller, a path, a rule\" autocomplete=\"off\"></label></p>\n\
             <div class=\"picture\">\n{}</div>\n<table>\n<thead><tr><th>caller</th><th>workload</th><th>may</th><th>rule</th>\
             <th>written at</th><th>may be denied by</th></tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n\
             <script>{SCRIPT}</script>\n</body>\n</html>\n",
            self.svg()
        )
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let all = chunk.iter().fold(0_u32, |all, byte| (all << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let letter = LETTERS.get((all >> (18 - 6 * index) & 63) as usize).filter(|_| index <= chunk.len());
            out.push(letter.map_or('=', |letter| char::from(*letter)));
        }
    }
    out
}

const STYLE: &str = "body{font:14px system-ui,sans-serif;margin:1.5rem;color:#1f2328;background:#fff}h1{font-size:1.3rem}\
input{font:inherit;width:24rem;max-width:90%;padding:.3rem}.picture{overflow:auto;border:1px solid #d0d7de;border-radius:6px;margin-bottom:1rem}\
table{border-collapse:collapse}td,th{border:1px solid #d0d7de;padding:.25rem .5rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}\
td{font-family:ui-monospace,monospace;font-size:12px}.dim{opacity:.12}.gone{display:none}";

const SCRIPT: &str = "const box=document.getElementById('search');box.addEventListener('input',()=>{\
const wanted=box.value.trim().toLowerCase();\
for(const g of document.querySelectorAll('[data-text]'))g.classList.toggle('dim',wanted!==''&&!g.dataset.text.toLowerCase().includes(wanted));\
for(const row of document.querySelectorAll('tbody tr'))row.classList.toggle('gone',wanted!==''&&!row.textContent.toLowerCase().includes(wanted));});";

/// For one edge; more are counted.
const MOST_CALLS: usize = 50;
const MOST_NAMED: usize = 5;
const MOST_SHOWN: usize = 400;

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_of_every_length() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("\u{fb}\u{ff}", "w7vDvw=="),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
