package import Model

/// What the control plane can ask of a host. Three implementations: in-process (the host agent itself), Connect RPC,
/// and a simulated host for tests; all pass one conformance suite.
///
/// Every method throws `MartletError`: `not_found` when the host does not know the sandbox, `invalid_state` when it is
/// in the wrong state, `agent_error` when the guest agent does not answer, `host_unavailable` when the host itself does
/// not.
package protocol HostClient: Sendable {
  var hostID: HostID { get }

  // Lifecycle

  /// Creates the sandbox and returns when its guest agent answers. On failure nothing is left behind.
  /// Calling it again with the id of a sandbox that exists is `already_exists`.
  func createSandbox(_ spec: SandboxSpec) async throws -> HostSandbox
  /// Removes the sandbox and every trace of it. Idempotent; unknown ids succeed.
  func destroySandbox(_ id: SandboxID) async throws
  /// State of every sandbox this host holds, failed ones (with reason) included until they are destroyed. It reports
  /// state, it does not drain it.
  func listSandboxes() async throws -> [HostSandbox]
  func sandbox(_ id: SandboxID) async throws -> HostSandbox
  /// Resets the inactivity timer.
  func pingSandbox(_ id: SandboxID) async throws
  /// Saves memory, devices and disk, and gives everything else back. Done when this returns; a sandbox that is paused
  /// already is success. On failure the sandbox runs on, and it throws `agent_error` or `insufficient_storage`; when
  /// the VM itself was lost, the sandbox is `error`.
  func pauseSandbox(_ id: SandboxID) async throws -> HostSandbox
  /// Restores a paused sandbox; returns when its guest agent answers. One that runs already is success.
  /// - Throws: `snapshot_damaged` or `snapshot_incompatible`; the sandbox stays paused then, and the message says
  ///   whether the previous generation can be resumed instead.
  func resumeSandbox(_ id: SandboxID, _ options: ResumeOptions) async throws -> HostSandbox
  /// How long a running sandbox may be idle before it is paused; 0 for ever.
  func setTimeout(_ seconds: Int, of id: SandboxID) async throws
  /// Makes running copies of a running or paused sandbox, one per spec; the specs say who the copies are. Each succeeds
  /// or fails alone.
  func forkSandbox(_ id: SandboxID, into specs: [SandboxSpec]) async throws -> [Result<HostSandbox, MartletError>]

  // Named snapshots

  /// Freezes a running (it runs on) or paused sandbox under a name, from which `createSandbox` makes copies.
  /// - Throws: `already_exists` when the team has a snapshot of this name, unless `overwrites`; `invalid_state`.
  func createSnapshot(_ request: SnapshotRequest) async throws -> HostTemplate
  /// Sandboxes made from it are not affected. Idempotent; unknown names succeed.
  func deleteSnapshot(_ name: SafeName, team: TeamID) async throws

  /// Templates and named snapshots whose files are on this host.
  /// - Parameter kind: nil for both.
  func listTemplates(_ kind: HostTemplate.Kind?) async throws -> [HostTemplate]

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
  func renameFile(
    from source: String, to destination: String, user: String?, in id: SandboxID
  ) async throws -> FileEntry
  func removeFile(_ path: String, user: String?, in id: SandboxID) async throws
  func metrics(of id: SandboxID) async throws -> GuestMetrics
}
