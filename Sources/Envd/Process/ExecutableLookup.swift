import CLinux
import Glibc

/// Finds programs like a shell does. Source: execvp(3).
package enum ExecutableLookup {
  /// - Parameters:
  ///   - command: a path if it contains a slash, otherwise a name that is looked up in `searchPath`.
  ///   - directory: the base of relative paths and of relative entries of the search path.
  /// - Returns: an absolute path.
  /// - Throws: `commandNotFound`, or `commandNotExecutable` when only files without execute permission were found.
  package static func find(
    _ command: String, searchPath: String, directory: String
  ) throws(ProcessServiceError) -> String {
    guard !command.isEmpty, !command.utf8.contains(0) else {
      throw .invalidRequest("cmd must be the name or path of a program")
    }
    let candidates =
      command.contains("/")
      ? [absolute(command, in: directory)]
      : searchPath.split(separator: ":", omittingEmptySubsequences: false).map {
        absolute("\($0.isEmpty ? "." : $0)/\(command)", in: directory)
      }
    var foundFile = false
    for candidate in candidates {
      var status = stat()
      guard stat(candidate, &status) == 0 else { continue }
      if status.st_mode & S_IFMT == S_IFREG, status.st_mode & 0o111 != 0 { return candidate }
      foundFile = true
    }
    throw foundFile ? .commandNotExecutable(command) : .commandNotFound(command)
  }

  static func absolute(_ path: String, in directory: String) -> String {
    path.hasPrefix("/") ? path : "\(directory == "/" ? "" : directory)/\(path)"
  }
}
