package import Foundation
package import Model

/// The calls that the control plane makes to a host. There are three implementations: in-process (the host agent
/// itself), Connect RPC, and a simulated host for tests; all pass the same conformance suite.
///
/// Every method throws `MartletError`: `not_found` when the host does not know the sandbox, `invalid_state` when the
/// sandbox is in the wrong state, `agent_error` when the guest agent does not respond, `host_unavailable` when the host
/// itself does not.
package protocol HostClient: Sendable {
  var hostID: HostID { get }

  // MARK: - Lifecycle

  /// Creates a sandbox and returns when its guest agent responds. On failure nothing is left behind. A second call with
  /// the same id fails with `already_exists`.
  func createSandbox(_ spec: SandboxSpec) async throws -> HostSandbox
  /// Removes the sandbox with all its resources. Idempotent; unknown ids succeed.
  func destroySandbox(_ id: SandboxID) async throws
  /// The state of every sandbox on this host, including failed ones (with the reason) until they are destroyed. Reports
  /// state, not events: reading does not remove anything from the report.
  func listSandboxes() async throws -> [HostSandbox]
  func sandbox(_ id: SandboxID) async throws -> HostSandbox
  /// Restarts the idle timer.
  func pingSandbox(_ id: SandboxID) async throws
  /// Saves memory, devices and disk, and releases all other resources. Complete when this returns; succeeds for a
  /// sandbox that is already paused. On failure the sandbox continues to run, and the call throws `agent_error` or
  /// `insufficient_storage`; if the VM itself was lost, the sandbox is in the state `error`.
  func pauseSandbox(_ id: SandboxID) async throws -> HostSandbox
  /// Restores a paused sandbox and returns when its guest agent responds. Succeeds for a sandbox that already runs.
  /// - Throws: `snapshot_damaged` or `snapshot_incompatible`; then the sandbox stays paused, and the message states
  ///   whether the previous generation can be resumed instead.
  func resumeSandbox(_ id: SandboxID, _ options: ResumeOptions) async throws -> HostSandbox
  /// Sets how long a running sandbox may be idle before it is paused; 0 disables the timer.
  func setTimeout(_ seconds: Int, of id: SandboxID) async throws
  /// Creates running copies of a running or paused sandbox, one per spec; the specs contain the ids of the copies. Each
  /// copy succeeds or fails independently.
  func forkSandbox(_ id: SandboxID, into specs: [SandboxSpec]) async throws -> [Result<HostSandbox, MartletError>]

  // MARK: - Named snapshots

  /// Creates a named snapshot of a running or paused sandbox, from which `createSandbox` makes copies. A running
  /// sandbox continues to run.
  /// - Throws: `already_exists` when the team has a snapshot of this name, unless `overwrites`; `invalid_state`.
  func createSnapshot(_ request: SnapshotRequest) async throws -> HostTemplate
  /// Deletes a named snapshot. Sandboxes created from it are not affected. Idempotent; unknown names succeed.
  /// - Parameter createdAt: when the snapshot to delete was made. Another snapshot with the same name is kept, so that a
  ///   deletion that only an older database remembers never reaches a newer snapshot. Nil deletes whichever has the name.
  func deleteSnapshot(_ name: SafeName, team: TeamID, createdAt: Date?) async throws

  /// Templates and named snapshots whose files are on this host.
  /// - Parameter kind: nil for both kinds.
  func listTemplates(_ kind: HostTemplate.Kind?) async throws -> [HostTemplate]

  // MARK: - Quarantine

  // What the host holds and the database does not know. It is in no other list, is never collected, and stays until an
  // administrator, a row of the database or a tombstone decides.

  /// Everything in quarantine, and the installation that the host belongs to.
  func quarantine() async throws -> HostQuarantine
  /// Quarantines a sandbox; durable when this returns. The host pauses a running one afterwards. While that fails, the
  /// sandbox continues to run and the host tries again. Idempotent.
  /// - Throws: `not_found`.
  func quarantineSandbox(_ id: SandboxID) async throws
  /// Quarantines a named snapshot, which frees its name. Idempotent; does nothing if there is no snapshot of this name
  /// that was made at `createdAt`.
  func quarantineSnapshot(_ name: SafeName, team: TeamID, createdAt: Date) async throws
  /// Releases a sandbox from quarantine; it belongs to `team` from now on. Idempotent.
  /// - Throws: `not_found`.
  func releaseSandbox(_ id: SandboxID, to team: TeamID) async throws -> HostSandbox
  /// Releases a snapshot from quarantine and gives it a name of `team`. Idempotent.
  /// - Throws: `not_found`; `already_exists` if the team has a snapshot of this name.
  func releaseSnapshot(_ id: GenerationID, as name: SafeName, team: TeamID) async throws -> HostTemplate
  /// Removes a snapshot that is in quarantine. Idempotent. `destroySandbox` removes a sandbox in quarantine.
  func removeQuarantinedSnapshot(_ id: GenerationID) async throws

  // MARK: - Processes

  /// Starts a process; the session's first event is `started`.
  func startProcess(_ request: ProcessRequest, in id: SandboxID) async throws -> any ProcessSession
  /// Attaches to a running process; earlier output is not replayed.
  func attachProcess(_ selector: ProcessSelector, in id: SandboxID) async throws -> any ProcessSession
  func listProcesses(in id: SandboxID) async throws -> [GuestProcess]
  func signalProcess(_ selector: ProcessSelector, signal: Int32, in id: SandboxID) async throws

  // MARK: - Files
  //
  // A `user` of nil means the template's default user; relative paths are relative to the user's home directory.

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

extension HostClient {
  /// Deletes whichever snapshot has the name.
  package func deleteSnapshot(_ name: SafeName, team: TeamID) async throws {
    try await deleteSnapshot(name, team: team, createdAt: nil)
  }
}
