import Concurrency
import Foundation
import HostAPI
import Model
import NIOCore
import TestSupport

/// A host whose uploads and downloads the test controls, and that stores no content.
final class TransferHost: ForwardingHost {
  typealias Content = @Sendable (Counter) -> AsyncThrowingStream<ByteBuffer, any Error>

  static let pattern = ByteBuffer(bytes: (0..<65_536).map { UInt8(truncatingIfNeeded: $0 &* 31) })

  let base = SimulatedHost()
  let taken = Counter()
  let offered = Counter()
  let broken = Counter()
  let whole = Counter()
  private let gate: AsyncStream<Void>
  private let opening: AsyncStream<Void>.Continuation
  private let state = Mutex(State())

  private struct State {
    var content: Content?
    var sizeBytes = 0
    var refusal: MartletError?
    var isIntact = true
    var target = ""
  }

  init() {
    (gate, opening) = AsyncStream.makeStream()
  }

  /// Whether every byte had the expected value.
  var isIntact: Bool { state.withLock { $0.isIntact } }
  var target: String { state.withLock { $0.target } }

  /// Reads the rest of an upload; the first part it reads on its own.
  func release() { opening.finish() }
  func offer(_ sizeBytes: Int, _ content: @escaping Content) {
    state.withLock { ($0.content, $0.sizeBytes) = (content, sizeBytes) }
  }
  func refuse(with error: MartletError) { state.withLock { $0.refusal = error } }

  func writeFile(_ path: String, user: String?, body: ByteStream, in id: SandboxID) async throws {
    state.withLock { $0.target = "\(path) \(user ?? "") \(id)" }
    do {
      for try await piece in body {
        check(piece)
        taken.add(piece.readableBytes)
        if let refusal = state.withLock({ $0.refusal }) { throw refusal }
        for await _ in gate {}
      }
      whole.add(1)
    } catch {
      broken.add(1)
      throw error
    }
  }

  func readFile(_ path: String, user: String?, in id: SandboxID) async throws -> FileDownload {
    let (content, size) = state.withLock { ($0.content, $0.sizeBytes) }
    guard let content else { throw MartletError(.notFound, "nothing is offered") }
    return FileDownload(sizeBytes: Int64(size), body: content(offered))
  }

  /// The content repeats every 65,536 bytes.
  private func check(_ piece: ByteBuffer) {
    let position = taken.value % Self.pattern.readableBytes
    var expected = Self.pattern
    guard expected.readableBytes - position >= piece.readableBytes else {
      return state.withLock { $0.isIntact = false }
    }
    expected.moveReaderIndex(forwardBy: position)
    if expected.readSlice(length: piece.readableBytes) != piece { state.withLock { $0.isIntact = false } }
  }
}

/// A host that forwards all calls that it does not implement itself.
protocol ForwardingHost: HostClient {
  var base: SimulatedHost { get }
}

extension ForwardingHost {
  var hostID: HostID { base.hostID }
  func createSandbox(_ spec: SandboxSpec) async throws -> HostSandbox { try await base.createSandbox(spec) }
  func destroySandbox(_ id: SandboxID) async throws { try await base.destroySandbox(id) }
  func listSandboxes() async throws -> [HostSandbox] { try await base.listSandboxes() }
  func sandbox(_ id: SandboxID) async throws -> HostSandbox { try await base.sandbox(id) }
  func pingSandbox(_ id: SandboxID) async throws { try await base.pingSandbox(id) }
  func pauseSandbox(_ id: SandboxID) async throws -> HostSandbox { try await base.pauseSandbox(id) }
  func resumeSandbox(_ id: SandboxID, _ options: ResumeOptions) async throws -> HostSandbox {
    try await base.resumeSandbox(id, options)
  }
  func setTimeout(_ seconds: Int, of id: SandboxID) async throws { try await base.setTimeout(seconds, of: id) }
  func forkSandbox(_ id: SandboxID, into specs: [SandboxSpec]) async throws -> [Result<HostSandbox, MartletError>] {
    try await base.forkSandbox(id, into: specs)
  }
  func createSnapshot(_ request: SnapshotRequest) async throws -> HostTemplate {
    try await base.createSnapshot(request)
  }
  func deleteSnapshot(_ name: SafeName, team: TeamID, createdAt: Date?) async throws {
    try await base.deleteSnapshot(name, team: team, createdAt: createdAt)
  }
  func quarantine() async throws -> HostQuarantine { try await base.quarantine() }
  func quarantineSandbox(_ id: SandboxID) async throws { try await base.quarantineSandbox(id) }
  func quarantineSnapshot(_ name: SafeName, team: TeamID, createdAt: Date) async throws {
    try await base.quarantineSnapshot(name, team: team, createdAt: createdAt)
  }
  func releaseSandbox(_ id: SandboxID, to team: TeamID) async throws -> HostSandbox {
    try await base.releaseSandbox(id, to: team)
  }
  func releaseSnapshot(_ id: GenerationID, as name: SafeName, team: TeamID) async throws -> HostTemplate {
    try await base.releaseSnapshot(id, as: name, team: team)
  }
  func removeQuarantinedSnapshot(_ id: GenerationID) async throws { try await base.removeQuarantinedSnapshot(id) }
  func listTemplates(_ kind: HostTemplate.Kind?) async throws -> [HostTemplate] { try await base.listTemplates(kind) }
  func startProcess(_ request: ProcessRequest, in id: SandboxID) async throws -> any ProcessSession {
    try await base.startProcess(request, in: id)
  }
  func attachProcess(_ selector: ProcessSelector, in id: SandboxID) async throws -> any ProcessSession {
    try await base.attachProcess(selector, in: id)
  }
  func listProcesses(in id: SandboxID) async throws -> [GuestProcess] { try await base.listProcesses(in: id) }
  func signalProcess(_ selector: ProcessSelector, signal: Int32, in id: SandboxID) async throws {
    try await base.signalProcess(selector, signal: signal, in: id)
  }
  func listDirectory(_ path: String, depth: Int, user: String?, in id: SandboxID) async throws -> [FileEntry] {
    try await base.listDirectory(path, depth: depth, user: user, in: id)
  }
  func fileStatus(_ path: String, user: String?, in id: SandboxID) async throws -> FileEntry {
    try await base.fileStatus(path, user: user, in: id)
  }
  func makeDirectory(_ path: String, user: String?, in id: SandboxID) async throws -> FileEntry {
    try await base.makeDirectory(path, user: user, in: id)
  }
  func renameFile(
    from source: String, to destination: String, user: String?, in id: SandboxID
  ) async throws -> FileEntry {
    try await base.renameFile(from: source, to: destination, user: user, in: id)
  }
  func removeFile(_ path: String, user: String?, in id: SandboxID) async throws {
    try await base.removeFile(path, user: user, in: id)
  }
  func metrics(of id: SandboxID) async throws -> GuestMetrics { try await base.metrics(of: id) }
}
