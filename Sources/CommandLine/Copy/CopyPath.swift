import APIClient

/// One side of `martlet cp`.
enum CopyPath: Equatable, Sendable {
  /// `-`: standard input or output.
  case standardStream
  case local(String)
  /// `SANDBOX:PATH`; a relative path starts in the user's home directory.
  case remote(sandbox: String, path: String)

  /// A colon before any slash separates a sandbox from a path; a local file with such a name is written `./a:b`.
  /// - Throws: `invalid_input` if the text, the sandbox or the path is empty.
  init(_ text: String) throws(APIError) {
    guard !text.isEmpty else {
      throw APIError(.invalidInput, "a path must not be empty; give SANDBOX:PATH or a path on this machine")
    }
    guard text != "-" else {
      self = .standardStream
      return
    }
    let head = text.prefix { $0 != "/" && $0 != ":" }
    guard head.endIndex < text.endIndex, text[head.endIndex] == ":" else {
      self = .local(text)
      return
    }
    let path = text[text.index(after: head.endIndex)...]
    guard !head.isEmpty else { throw APIError(.invalidInput, "'\(text)' names no sandbox before the colon") }
    guard !path.isEmpty else {
      throw APIError(.invalidInput, "'\(text)' names no path after the colon; '\(head):.' is the home directory")
    }
    self = .remote(sandbox: String(head), path: String(path))
  }

  /// Last component of a path; nil for `/`, `.` and `..`.
  static func baseName(of path: String) -> String? {
    guard let last = path.split(separator: "/").last, last != ".", last != ".." else { return nil }
    return String(last)
  }

  /// The parent directory of a path.
  static func parent(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  static func join(_ directory: String, _ name: String) -> String {
    directory.hasSuffix("/") ? directory + name : "\(directory)/\(name)"
  }

  /// Whether a name from a guest is a single path component, so that it cannot leave the directory (path traversal).
  static func isPlainName(_ name: String) -> Bool {
    !name.isEmpty && name != "." && name != ".." && !name.utf8.contains(UInt8(ascii: "/")) && !name.utf8.contains(0)
  }

  /// Whether a list of files shows the name as it is: without control characters and bidirectional marks.
  static func isVisibleName(_ name: String) -> Bool {
    name.unicodeScalars.allSatisfy(\.isVisible)
  }
}
