import Concurrency
import Glibc

/// Runs a program of the distribution to its end: `ip`, `nft`, `mkfs.ext4`, `qemu-img` …
package enum Tool {
  package static let defaultOutputLimit = 1_048_576
  private static let searchPath = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]

  /// The absolute path of a program, or nil when it is not installed.
  package static func find(_ name: String) -> String? {
    if name.hasPrefix("/") { return access(name, X_OK) == 0 ? name : nil }
    return searchPath.map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
  }

  /// Runs a program and collects its output. A non-zero exit status is not an error here; see `ToolOutput.checked()`.
  ///
  /// - Parameters:
  ///   - executable: a name looked up in the usual directories, or an absolute path.
  ///   - input: text for standard input; nil means /dev/null.
  ///   - deadline: after it the program is killed.
  ///   - outputLimit: bytes kept of each stream; more is read and dropped.
  ///   - onLine: called from a background thread with each line of standard output and error as it arrives.
  /// - Throws: `ToolError` when it cannot be started, the deadline passes or the task is cancelled (the program is
  ///   killed and reaped first).
  package static func run(
    _ executable: String, _ arguments: [String] = [], environment: [String: String]? = nil, input: String? = nil,
    directory: String? = nil, deadline: Duration = .seconds(30), outputLimit: Int = defaultOutputLimit,
    onLine: (@Sendable (String) -> Void)? = nil
  ) async throws(ToolError) -> ToolOutput {
    let run = try prepare(
      executable, arguments, environment: environment, input: input, directory: directory, deadline: deadline,
      outputLimit: outputLimit, onLine: onLine)
    let outcome = await withTaskCancellationHandler {
      await BlockingPool.shared.run { () throws(Never) -> Result<ToolOutput, ToolError.Reason> in run.execute() }
    } onCancel: {
      run.cancel()
    }
    return try result(outcome, of: executable)
  }

  /// Runs a program on the calling thread, which must be allowed to block. Only the deadline ends it early.
  package static func runBlocking(
    _ executable: String, _ arguments: [String] = [], deadline: Duration = .seconds(30)
  ) throws(ToolError) -> ToolOutput {
    let run = try prepare(
      executable, arguments, environment: nil, input: nil, directory: nil, deadline: deadline,
      outputLimit: defaultOutputLimit, onLine: nil)
    return try result(run.execute(), of: executable)
  }

  private static func prepare(
    _ executable: String, _ arguments: [String], environment: [String: String]?, input: String?, directory: String?,
    deadline: Duration,
    outputLimit: Int, onLine: (@Sendable (String) -> Void)?
  ) throws(ToolError) -> ToolRun {
    guard let path = find(executable) else { throw ToolError(executable, .notInstalled) }
    let environment = environment ?? ["PATH": searchPath.joined(separator: ":"), "LC_ALL": "C.UTF-8", "HOME": "/root"]
    do {
      return try ToolRun(
        path: path, arguments: arguments, environment: environment, input: input, directory: directory,
        deadline: deadline,
        outputLimit: outputLimit, onLine: onLine)
    } catch {
      throw ToolError(executable, .system(error))
    }
  }

  private static func result(
    _ outcome: Result<ToolOutput, ToolError.Reason>, of executable: String
  ) throws(ToolError) -> ToolOutput {
    switch outcome {
    case .success(let output): return output
    case .failure(let reason): throw ToolError(executable, reason)
    }
  }
}

package struct ToolOutput: Sendable {
  package let executable: String
  package let status: ExitStatus
  package let standardOutput: [UInt8]
  package let standardError: [UInt8]

  package var outputText: String { String(decoding: standardOutput, as: UTF8.self) }
  package var errorText: String { String(decoding: standardError, as: UTF8.self) }
  package var isSuccess: Bool { status == .exited(0) }

  /// Returns itself if the program succeeded.
  @discardableResult
  package func checked() throws(ToolError) -> ToolOutput {
    guard isSuccess else { throw ToolError(executable, .failed(status, errorText)) }
    return self
  }
}

package struct ToolError: Error, Sendable, CustomStringConvertible {
  package enum Reason: Error, Sendable {
    case notInstalled
    case spawn(SpawnError)
    case system(SystemError)
    case deadlineExceeded
    case canceled
    case failed(ExitStatus, String)
  }

  package let executable: String
  package let reason: Reason

  package init(_ executable: String, _ reason: Reason) {
    self.executable = executable
    self.reason = reason
  }

  package var description: String {
    switch reason {
    case .notInstalled: "\(executable) is not installed"
    case .spawn(let error): "\(error)"
    case .system(let error): "\(executable): \(error)"
    case .deadlineExceeded: "\(executable) did not end in time and was killed"
    case .canceled: "\(executable) was canceled"
    case .failed(let status, let text): "\(executable) failed (\(status)): \(text.prefix(2_000))"
    }
  }
}

extension Tool {
  package static func isReadable(_ path: String) -> Bool { access(path, R_OK) == 0 }
}
