//! Aligned columns by the rules of Go's `text/tabwriter`, which Docker's listings go through: a cell ends with a tab,
//! and cells of adjacent lines that stand below each other form a column as wide as its widest cell.

/// Smallest width of a column, and blanks after its widest cell.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Smallest width of a column.
    pub min_width: usize,
    /// Blanks after the widest cell.
    pub padding: usize,
}

/// As most listings are laid out.
pub const LISTING: Layout = Layout {
    min_width: 10,
    padding: 3,
};

/// Replaces the tabs by blanks.
pub fn align(text: &str, layout: Layout) -> String {
    let lines: Vec<Vec<&str>> = text
        .split('\n')
        .map(|line| line.split('\t').collect())
        .collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len()]).collect();
    measure(&lines, &mut widths, 0, 0, lines.len(), layout);
    let rendered: Vec<String> = lines
        .iter()
        .zip(&widths)
        .map(|(cells, widths)| line(cells, widths))
        .collect();
    rendered.join("\n")
}

/// Sets the widths of column `column` in the lines from `from` to `to`, block by block, and of the columns inside each
/// block after it.
fn measure(
    lines: &[Vec<&str>],
    widths: &mut [Vec<usize>],
    column: usize,
    from: usize,
    to: usize,
    layout: Layout,
) {
    let has_cell = |line: usize| column + 1 < lines[line].len();
    let mut at = from;
    while at < to {
        if !has_cell(at) {
            at += 1;
            continue;
        }
        let end = (at..to).find(|line| !has_cell(*line)).unwrap_or(to);
        let widest = (at..end)
            .map(|line| lines[line][column].chars().count())
            .max()
            .unwrap_or(0);
        let width = (widest + layout.padding).max(layout.min_width);
        for widths in &mut widths[at..end] {
            widths[column] = width;
        }
        measure(lines, widths, column + 1, at, end, layout);
        at = end;
    }
}

fn line(cells: &[&str], widths: &[usize]) -> String {
    let mut out = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        out.push_str(cell);
        out.push_str(&" ".repeat(width.saturating_sub(cell.chars().count())));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        assert_eq!(
            align(
                "CONTAINER ID\tIMAGE\tNAMES\n0123456789ab\tbusybox:latest\tweb\n",
                LISTING
            ),
            "CONTAINER ID   IMAGE            NAMES\n0123456789ab   busybox:latest   web\n"
        );
    }

    #[test]
    fn a_line_without_cells_ends_the_columns() {
        let layout = Layout {
            min_width: 0,
            padding: 1,
        };
        assert_eq!(
            align("a\tb\nplain\nlonger\tb", layout),
            "a b\nplain\nlonger b"
        );
    }

    #[test]
    fn widths_count_characters() {
        assert_eq!(
            align(
                "é\tx\nab\ty",
                Layout {
                    min_width: 0,
                    padding: 1
                }
            ),
            "é  x\nab y"
        );
    }
}
