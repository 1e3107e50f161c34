package import Foundation
package import HostInterface
package import Model
package import NIOCore

/// A host without machines: sandboxes, processes and files in memory, and faults on demand.
package actor SimulatedHost: HostClient {
  package enum Operation: Hashable, Sendable {
    case create, destroy, list, start, write, read, templates
  }

  package nonisolated let hostID: HostID
  package var sandboxes: [SandboxID: HostSandbox] = [:]
  package var processes: [SandboxID: [SimulatedProcess]] = [:]
  package var files: [SandboxID: [String: ByteBuffer]] = [:]
  package var templates: [HostTemplate]
  /// Bytes of bodies that broke before their end.
  package var brokenUploads = 0
  package var destroyCalls = 0
  private var faults: [Operation: MartletError] = [:]
  private var delays: [Operation: Duration] = [:]
  private var readFault: (after: Int, announced: Int64?)?
  private var nextPID: UInt32 = 100

  package init(hostID: HostID = HostID()) {
    self.hostID = hostID
    let created = Date(timeIntervalSince1970: 1_700_000_000)
    templates = [SafeName.minimal, .base].map {
      HostTemplate(name: $0, teamID: .platform, sizeBytes: 1 << 20, createdAt: created)
    }
  }

  // MARK: Faults

  /// Makes an operation fail, or work again with nil.
  package func fail(_ operation: Operation, with error: MartletError?) { faults[operation] = error }
  package func delay(_ operation: Operation, by duration: Duration?) { delays[operation] = duration }
  /// Downloads break after so many bytes.
  package func breakReads(after bytes: Int, announcing size: Int64?) { readFault = (bytes, size) }
  package func set(_ id: SandboxID, status: SandboxStatus?, reason: String? = nil) {
    guard let status else {
      sandboxes[id] = nil
      return
    }
    let known = sandboxes[id] ?? HostSandbox(id: id, status: status, vcpus: 1, memoryMiB: 512, diskSizeMiB: 5120)
    sandboxes[id] = known
    sandboxes[id]?.status = status
    sandboxes[id]?.reason = reason
  }
  package func setActivity(_ id: SandboxID, _ date: Date) { sandboxes[id]?.lastActiveAt = date }
  package func file(_ path: String, in id: SandboxID) -> ByteBuffer? { files[id]?[path] }
  package func put(_ path: String, _ content: ByteBuffer, in id: SandboxID) { files[id, default: [:]][path] = content }
  package func process(_ selector: ProcessSelector, in id: SandboxID) -> SimulatedProcess? {
    processes[id, default: []].last { process in
      switch selector {
      case .pid(let pid): process.pid == pid
      case .tag(let tag): process.request.tag == tag
      }
    }
  }

  private func gate(_ operation: Operation) async throws {
    if let delay = delays[operation] { try await Task.sleep(for: delay) }
    if let fault = faults[operation] { throw fault }
  }

  // MARK: Lifecycle

  package func createSandbox(_ spec: SandboxSpec) async throws -> HostSandbox {
    try await gate(.create)
    guard sandboxes[spec.id] == nil else { throw MartletError(.alreadyExists, "sandbox \(spec.id) exists") }
    let sandbox = HostSandbox(
      id: spec.id, status: .running, vcpus: spec.vcpus, memoryMiB: spec.memoryMiB, diskSizeMiB: spec.diskSizeMiB,
      guestIP: "169.254.0.21", hostIP: "10.11.0.2", isolation: Isolation(vmm: "simulated", accelerator: "none"), startedAt: Date())
    sandboxes[spec.id] = sandbox
    return sandbox
  }

  package func destroySandbox(_ id: SandboxID) async throws {
    destroyCalls += 1
    try await gate(.destroy)
    sandboxes[id] = nil
    for process in processes.removeValue(forKey: id) ?? [] { process.receive(signal: 9) }
    files[id] = nil
  }

  package func listSandboxes() async throws -> [HostSandbox] {
    try await gate(.list)
    return Array(sandboxes.values)
  }

  package func sandbox(_ id: SandboxID) async throws -> HostSandbox {
    guard let sandbox = sandboxes[id] else { throw MartletError.sandboxNotFound(id) }
    return sandbox
  }

  package func pingSandbox(_ id: SandboxID) async throws {
    _ = try await sandbox(id)
    sandboxes[id]?.lastActiveAt = Date()
  }

  package func listTemplates() async throws -> [HostTemplate] {
    try await gate(.templates)
    return templates
  }

  package func metrics(of id: SandboxID) async throws -> GuestMetrics {
    _ = try await sandbox(id)
    return GuestMetrics(
      timestamp: Date(), cpuPercent: 12.5, memoryBytes: 1 << 26, memoryTotalBytes: 1 << 29, diskBytes: 1 << 20, diskTotalBytes: 1 << 32)
  }

  // MARK: Snapshots

  package func pauseSandbox(_ id: SandboxID) async throws -> HostSandbox { throw Self.noSnapshots }
  package func resumeSandbox(_ id: SandboxID, _ options: ResumeOptions) async throws -> HostSandbox { throw Self.noSnapshots }
  package func setTimeout(_ seconds: Int, of id: SandboxID) async throws { throw Self.noSnapshots }
  package func forkSandbox(_ id: SandboxID, into specs: [SandboxSpec]) async throws -> [Result<HostSandbox, MartletError>] {
    throw Self.noSnapshots
  }
  package func createSnapshot(_ request: SnapshotRequest) async throws -> HostTemplate { throw Self.noSnapshots }
  package func deleteSnapshot(_ name: SafeName, team: TeamID) async throws { throw Self.noSnapshots }
  private static let noSnapshots = MartletError(.unimplemented, "this host takes no snapshots")

  // MARK: Processes

  package func startProcess(_ request: ProcessRequest, in id: SandboxID) async throws -> any ProcessSession {
    try await gate(.start)
    _ = try await sandbox(id)
    nextPID += 1
    let process = SimulatedProcess(pid: nextPID, request: request)
    processes[id, default: []].append(process)
    let session = SimulatedSession(process)
    process.begin()
    return session
  }

  package func attachProcess(_ selector: ProcessSelector, in id: SandboxID) async throws -> any ProcessSession {
    SimulatedSession(try alive(selector, in: id))
  }

  package func listProcesses(in id: SandboxID) async throws -> [GuestProcess] {
    processes[id, default: []].filter(\.isAlive).map {
      GuestProcess(pid: $0.pid, tag: $0.request.tag, command: $0.request.command, arguments: $0.request.arguments)
    }
  }

  package func signalProcess(_ selector: ProcessSelector, signal: Int32, in id: SandboxID) async throws {
    try alive(selector, in: id).receive(signal: signal)
  }

  private func alive(_ selector: ProcessSelector, in id: SandboxID) throws -> SimulatedProcess {
    guard let process = process(selector, in: id), process.isAlive else {
      throw MartletError(.notFound, "there is no such process")
    }
    return process
  }

  // MARK: Files

  package func writeFile(_ path: String, user: String?, body: ByteStream, in id: SandboxID) async throws {
    try await gate(.write)
    var content = ByteBuffer()
    do {
      for try await piece in body { content.writeImmutableBuffer(piece) }
    } catch {
      brokenUploads += 1
      throw error
    }
    files[id, default: [:]][path] = content
  }

  package func readFile(_ path: String, user: String?, in id: SandboxID) async throws -> FileDownload {
    try await gate(.read)
    guard let content = files[id]?[path] else { throw MartletError(.notFound, "there is no file \(path)") }
    let fault = readFault
    var rest = content
    var sent = 0
    let pieces: [ByteBuffer] = {
      var pieces: [ByteBuffer] = []
      while let piece = rest.readSlice(length: min(65_536, rest.readableBytes)), piece.readableBytes > 0 { pieces.append(piece) }
      return pieces
    }()
    let (stream, continuation) = AsyncThrowingStream<ByteBuffer, any Error>.makeStream()
    for piece in pieces {
      if let fault, sent + piece.readableBytes > fault.after {
        continuation.finish(throwing: SimulatedFault())
        break
      }
      sent += piece.readableBytes
      continuation.yield(piece)
    }
    continuation.finish()
    return FileDownload(sizeBytes: fault == nil ? Int64(content.readableBytes) : fault?.announced, body: stream)
  }

  package func listDirectory(_ path: String, depth: Int, user: String?, in id: SandboxID) async throws -> [FileEntry] {
    files[id, default: [:]].filter { $0.key.hasPrefix(path) }.map { entry($0.key, $0.value) }.sorted { $0.path < $1.path }
  }

  package func fileStatus(_ path: String, user: String?, in id: SandboxID) async throws -> FileEntry {
    guard let content = files[id]?[path] else { throw MartletError(.notFound, "there is no file \(path)") }
    return entry(path, content)
  }

  package func makeDirectory(_ path: String, user: String?, in id: SandboxID) async throws -> FileEntry {
    var made = entry(path, ByteBuffer())
    made.kind = .directory
    return made
  }

  package func renameFile(
    from source: String, to destination: String, user: String?, in id: SandboxID
  ) async throws -> FileEntry {
    guard let content = files[id]?.removeValue(forKey: source) else { throw MartletError(.notFound, "there is no file \(source)") }
    files[id, default: [:]][destination] = content
    return entry(destination, content)
  }

  package func removeFile(_ path: String, user: String?, in id: SandboxID) async throws {
    guard files[id]?.removeValue(forKey: path) != nil else { throw MartletError(.notFound, "there is no file \(path)") }
  }

  private func entry(_ path: String, _ content: ByteBuffer) -> FileEntry {
    FileEntry(
      name: path.split(separator: "/").last.map(String.init) ?? path, path: path, kind: .file, sizeBytes: Int64(content.readableBytes),
      mode: 0o644, permissions: "-rw-r--r--", owner: "user", group: "user", modifiedAt: Date(timeIntervalSince1970: 1_700_000_000))
  }
}
