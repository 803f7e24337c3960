//! The frame of every page, and the one function that makes outside text harmless.

/// A page being written.
#[derive(Debug)]
pub(super) struct Html(String);

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:0 auto;padding:1rem;color:#1c2430;background:#fff}\
a{color:#0b5cad}h1{font-size:1.5rem;overflow-wrap:anywhere}h2{font-size:1.1rem}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #d8dee8;overflow-wrap:anywhere}td.size{white-space:nowrap}\
pre,code{background:#f2f5f9;border-radius:4px}pre{padding:.6rem;overflow-x:auto}dt{font-weight:600}dd{margin:0 0 .4rem}\
@media(prefers-color-scheme:dark){body{color:#dde4ee;background:#14181f}a{color:#7ab8ff}pre,code{background:#202733}th,td{border-color:#2d3644}}";

impl Html {
    /// Begins a page.
    pub(super) fn new(site: &str, title: &str) -> Html {
        let (site, title) = (escape(site), escape(title));
        Html(format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
             <title>{title} – {site}</title><style>{STYLE}</style></head><body><header><a href=\"/\">{site}</a></header><main><h1>{title}</h1>"
        ))
    }

    /// Adds markup. Outside text in it has been through [`escape`], or is a checked name.
    pub(super) fn push(&mut self, markup: &str) {
        self.0.push_str(markup);
        self.0.push('\n');
    }

    /// The whole page.
    pub(super) fn finish(mut self) -> String {
        self.0.push_str("</main></body></html>\n");
        self.0
    }
}

/// Text as text, also inside of quotes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_text_is_text() {
        assert_eq!(
            escape("<a href='x'>&\"</a>"),
            "&lt;a href=&#39;x&#39;&gt;&amp;&quot;&lt;/a&gt;"
        );
    }
}
