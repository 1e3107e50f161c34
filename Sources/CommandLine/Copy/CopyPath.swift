import APIClient

/// One side of `martlet cp`.
enum CopyPath: Equatable, Sendable {
  /// `-`: standard input or output.
  case standardStream
  case local(String)
  /// `SANDBOX:PATH`; a relative path starts in the user's home.
  case remote(sandbox: String, path: String)

  /// A colon before any slash separates a sandbox from a path; a local file with such a name is written `./a:b`.
  /// - Throws: `invalid_input` for an empty text or an empty part.
  init(_ text: String) throws(APIError) {
    guard !text.isEmpty else { throw APIError(.invalidInput, "an empty text is not a path") }
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

  /// Last part of a path; nil when it names nothing (`/`, `.`, `..`).
  static func baseName(of path: String) -> String? {
    guard let last = path.split(separator: "/").last, last != ".", last != ".." else { return nil }
    return String(last)
  }

  /// The directory that a path names something in.
  static func parent(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  static func join(_ directory: String, _ name: String) -> String {
    directory.hasSuffix("/") ? directory + name : "\(directory)/\(name)"
  }

  /// Whether a name that a guest gave us is one file in one directory, and nothing else (path traversal).
  static func isPlainName(_ name: String) -> Bool {
    !name.isEmpty && name != "." && name != ".." && !name.utf8.contains(UInt8(ascii: "/")) && !name.utf8.contains(0)
  }
}
