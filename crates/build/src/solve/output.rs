//! What a build tells while it runs, piece by piece as Docker's classic builder does.

use tokio::sync::mpsc::UnboundedSender;
use wharf_api::progress::Progress;

/// One piece.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// Text to print.
    Text(String),
    /// Progress of a pull.
    Progress(Box<Progress>),
    /// A stage's image.
    Image(String),
}

/// Where one stage tells.
#[derive(Debug, Clone)]
pub struct Output(UnboundedSender<Piece>);

impl Output {
    /// Pieces go to `to`; when nobody listens they are dropped.
    pub fn new(to: UnboundedSender<Piece>) -> Output {
        Output(to)
    }

    /// Any piece.
    pub fn piece(&self, piece: Piece) {
        // Nobody listens: the build is being ended.
        let _ = self.0.send(piece);
    }

    /// Text; it carries its own newline.
    pub fn text(&self, text: impl Into<String>) {
        self.piece(Piece::Text(text.into()));
    }

    /// What a command writes to standard error, in red.
    pub fn error_text(&self, text: &str) {
        self.text(format!("\u{1b}[91m{text}\u{1b}[0m"));
    }

    /// The start of a step.
    pub fn step(&self, number: usize, total: usize, source: &str) {
        self.text(format!("Step {number}/{total} : {source}"));
        self.text("\n");
    }

    /// The image after a step; nothing is shown for an empty one.
    pub fn reached(&self, image: Option<&str>) {
        self.text(format!(" ---> {}\n", image.map_or("", short)));
    }

    /// A container begins.
    pub fn running_in(&self, container: &str) {
        self.text(format!(" ---> Running in {}\n", short(container)));
    }

    /// A container is gone.
    pub fn removed(&self, container: &str) {
        self.text(format!(
            " ---> Removed intermediate container {}\n",
            short(container)
        ));
    }
}

/// The first twelve digits of an ID.
pub fn short(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.get(..12).unwrap_or(id)
}
