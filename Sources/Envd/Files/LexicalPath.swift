/// Resolves clients' paths to absolute, lexically clean paths of the guest.
///
/// Source: E2B's envd contract (path resolution)
enum LexicalPath {
  /// Longest path in bytes. The kernel allows 4096 including the terminating zero (PATH_MAX).
  static let maximumBytes = 4_095

  /// An empty path means the default working directory, or the home if there is none. `~`, `~/x` and relative paths are
  /// relative to the home.
  /// - Throws: `invalidArgument` for a zero byte, a path that is too long, or another user's `~name`.
  static func resolve(_ path: String, home: String, defaultWorkdir: String?) throws(FileFailure) -> String {
    try validate(path)
    if path.isEmpty { return clean(joined(home, defaultWorkdir ?? "")) }
    guard path.utf8.first == UInt8(ascii: "~") else { return try bounded(clean(joined(home, path))) }
    let rest = path.dropFirst()
    guard rest.isEmpty || rest.utf8.first == UInt8(ascii: "/") else {
      throw FileFailure(.invalidArgument, "path '\(path)': only the own home directory (~) can be expanded")
    }
    return try bounded(clean(home + "/" + rest))
  }

  /// Removes empty and `.` components and resolves `..` lexically. `..` at the root is ignored.
  static func clean(_ path: String) -> String {
    var cleaned: [Substring] = []
    for component in components(of: path) where component != "." {
      if component == ".." { _ = cleaned.popLast() } else { cleaned.append(component) }
    }
    return "/" + cleaned.joined(separator: "/")
  }

  static func name(of path: String) -> String {
    components(of: path).last.map(String.init) ?? "/"
  }

  static func parent(of path: String) -> String {
    guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")), slash != path.startIndex else { return "/" }
    return String(path[..<slash])
  }

  /// The non-empty components. Split at bytes like the kernel does: as a `Character`, a slash may be joined with a
  /// combining character after it.
  static func components(of path: String) -> [Substring] {
    path.utf8.split(separator: UInt8(ascii: "/")).map(Substring.init)
  }

  /// `directory/name`, or `name` alone if it is absolute.
  static func joined(_ directory: String, _ name: String) -> String {
    if name.isEmpty { return directory }
    if name.utf8.first == UInt8(ascii: "/") { return name }
    return directory == "/" ? "/" + name : directory + "/" + name
  }

  private static func validate(_ path: String) throws(FileFailure) {
    guard !path.utf8.contains(0) else {
      throw FileFailure(.invalidArgument, "the path contains a zero byte")
    }
    try bounded(path)
  }

  @discardableResult
  private static func bounded(_ path: String) throws(FileFailure) -> String {
    guard path.utf8.count <= maximumBytes else {
      throw FileFailure(.invalidArgument, "the path is longer than \(maximumBytes) bytes")
    }
    return path
  }
}
