/// Rows of text in aligned columns.
struct Table {
  var header: [String]
  var rows: [[String]] = []

  /// The table's text. The last column is not padded; control characters are replaced.
  var rendered: String {
    let lines = ([header] + rows).map { $0.map(Self.printable) }
    let widths = header.indices.map { column in
      lines.map { $0.indices.contains(column) ? $0[column].count : 0 }.max() ?? 0
    }
    return lines.map { line in
      let cells = line.enumerated().map { column, cell in
        column == line.count - 1 ? cell : cell + String(repeating: " ", count: widths[column] - cell.count)
      }
      return cells.joined(separator: "  ")
    }.joined(separator: "\n")
  }

  /// Replaces invisible characters by U+FFFD, so that text from a tenant or guest cannot control the terminal.
  static func printable(_ text: String) -> String {
    String(String.UnicodeScalarView(text.unicodeScalars.map { $0.isVisible ? $0 : "\u{FFFD}" }))
  }

  /// The same for text of several lines.
  static func printableLines(_ text: String) -> String {
    // By scalars: as characters a carriage return and a line feed are one.
    text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false)
      .map { printable(String(Substring($0))) }.joined(separator: "\n")
  }
}

extension Unicode.Scalar {
  /// False for control characters (C0, DEL, C1), line and paragraph separators, and characters that change how others
  /// are shown, such as bidirectional marks. The joiners of many scripts and of emoji are let through.
  var isVisible: Bool {
    switch properties.generalCategory {
    case .control, .lineSeparator, .paragraphSeparator, .surrogate: false
    case .format: value == 0x200C || value == 0x200D
    default: true
    }
  }
}
