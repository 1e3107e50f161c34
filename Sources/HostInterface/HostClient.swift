package import Model

/// What the control plane can ask of a host. Three implementations: in-process (the host agent itself), Connect RPC, and a
/// simulated host for tests; all pass one conformance suite.
///
/// Every method throws `MartletError`: `not_found` when the host does not know the sandbox, `invalid_state` when it is in the
/// wrong state, `agent_error` when the guest agent does not answer, `host_unavailable` when the host itself does not.
package protocol HostClient: Sendable {
  var hostID: HostID { get }

  // Lifecycle

  /// Creates the sandbox and returns when its guest agent answers. On failure nothing is left behind.
  /// Calling it again with the id of a sandbox that exists is `already_exists`.
  func createSandbox(_ spec: SandboxSpec) async throws -> HostSandbox
  /// Removes the sandbox and every trace of it. Idempotent; unknown ids succeed.
  func destroySandbox(_ id: SandboxID) async throws
  /// State of every sandbox this host holds, failed ones (with reason) included until they are destroyed. It reports state, it does not drain it.
  func listSandboxes() async throws -> [HostSandbox]
  func sandbox(_ id: SandboxID) async throws -> HostSandbox
  /// Resets the inactivity timer.
  func pingSandbox(_ id: SandboxID) async throws
  /// Names of the templates whose files are on this host.
  func listTemplates() async throws -> [HostTemplate]

  // Processes

  /// Starts a process; the session's first event is `started`.
  func startProcess(_ request: ProcessRequest, in id: SandboxID) async throws -> any ProcessSession
  /// Attaches to a running process; nothing is replayed.
  func attachProcess(_ selector: ProcessSelector, in id: SandboxID) async throws -> any ProcessSession
  func listProcesses(in id: SandboxID) async throws -> [GuestProcess]
  func signalProcess(_ selector: ProcessSelector, signal: Int32, in id: SandboxID) async throws

  // Files. `user` nil means the template's default user; relative paths start in that user's home.

  func writeFile(_ path: String, user: String?, body: ByteStream, in id: SandboxID) async throws
  func readFile(_ path: String, user: String?, in id: SandboxID) async throws -> FileDownload
  func listDirectory(_ path: String, depth: Int, user: String?, in id: SandboxID) async throws -> [FileEntry]
  func fileStatus(_ path: String, user: String?, in id: SandboxID) async throws -> FileEntry
  func makeDirectory(_ path: String, user: String?, in id: SandboxID) async throws -> FileEntry
  func renameFile(from source: String, to destination: String, user: String?, in id: SandboxID) async throws -> FileEntry
  func removeFile(_ path: String, user: String?, in id: SandboxID) async throws
  func metrics(of id: SandboxID) async throws -> GuestMetrics
}
