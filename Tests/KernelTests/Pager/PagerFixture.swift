import Foundation
import Glibc
import LinuxSystem
import Logging
import Model
import Pager
import Snapshots
import SystemPackage
import Testing

/// A snapshot store, a run directory and real processes: pagers of the built `martlet`, and `pager-machine` with the
/// real library as VMM.
final class PagerFixture: Sendable {
  let directory: FilePath
  let store: SnapshotStore
  let backend: ProcessMemoryBackend
  let shim: FilePath

  init() async throws {
    directory = FilePath(FileManager.default.temporaryDirectory.path).appending("martlet-pager-\(UUID().uuidString)")
    try Directories.create(directory)
    store = SnapshotStore(directory: directory.appending("store"), logger: Self.logger)
    backend = ProcessMemoryBackend(executable: Self.product("martlet"), store: store, logger: Self.logger)
    shim = directory.appending("shim.so")
    try await Tool.run(Self.root.appending("scripts/build-shim").string, [shim.string]).checked()
  }

  deinit {
    try? Directories.removeTree(directory)
  }

  static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
  static let root = FilePath(#filePath).removingLastComponent().removingLastComponent().removingLastComponent()
    .removingLastComponent()
  /// A program built together with the tests.
  static func product(_ name: String) -> FilePath {
    FilePath(ProcessInfo.processInfo.arguments[0]).removingLastComponent().appending(name)
  }

  // MARK: - Generations

  func generation(_ model: GuestModel) throws -> Generation {
    let draft = try store.begin(GenerationID())
    let writer = try MemoryLayerWriter(draft, memoryBytes: model.memoryBytes, parent: nil)
    try model.write(to: writer)
    _ = try writer.finish()
    return try publish(draft, memoryBytes: model.memoryBytes, parent: nil)
  }

  /// Saves the memory of a machine over `parent`.
  func save(_ machine: TestMachine, parent: Generation?) async throws -> (Generation, SavedMemory) {
    let draft = try store.begin(GenerationID())
    let saved = try await backend.save(
      vmm: machine.pid, runDirectory: machine.runDirectory, memoryBytes: machine.memoryBytes, parent: parent,
      into: draft)
    return (try publish(draft, memoryBytes: machine.memoryBytes, parent: parent), saved)
  }

  /// Number of processes that save, or are prepared to save, a machine's memory.
  func savers(of machine: TestMachine) throws -> Int {
    try ProcessTable.pids().filter { pid in
      let arguments = try ProcessTable.arguments(of: pid)
      return arguments.contains("save") && arguments.contains(machine.runDirectory.string)
    }.count
  }

  func publish(_ draft: GenerationDraft, memoryBytes: Int64, parent: Generation?) throws -> Generation {
    for path in [draft.devicePath, draft.diskPath] { try Data("nothing".utf8).write(to: URL(filePath: path.string)) }
    return try store.publish(
      draft,
      GenerationManifest(
        id: draft.id, parent: parent?.id, diskParents: [], createdAt: Date(timeIntervalSince1970: 1_700_000_000),
        machine: MachineDescription(
          vmm: "qemu", vmmVersion: "0", machine: "test", firmwareDigest: "", cpuModel: "max", accelerator: "tcg"),
        vcpus: 1, memoryBytes: memoryBytes,
        disk: .init(
          sizeBytes: 1 << 20, format: "raw", basePath: draft.diskPath.string, baseFormat: "raw", baseDigest: "sha256-00"
        ),
        template: .minimal))
  }

  /// Checks that a generation has exactly the model's content.
  func expectContent(
    _ generation: Generation, _ model: GuestModel, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let image = try MemoryImage.open(generation, in: store)
    #expect(image.firstDamaged(in: 0..<image.pageCount) == nil, sourceLocation: sourceLocation)
    var wrong: [Int] = []
    for extent in image.extents(in: 0..<image.pageCount) {
      for (offset, page) in extent.pages.enumerated() {
        let expected = model.words(of: page)
        switch extent.source {
        case .zero: if expected.contains(where: { $0 != 0 }) { wrong.append(page) }
        case .stored(let stored):
          let bytes = stored.bytes[(offset * 4_096)..<((offset + 1) * 4_096)]
          if !expected.withUnsafeBytes({ $0.elementsEqual(bytes) }) { wrong.append(page) }
        }
      }
    }
    #expect(wrong.isEmpty, "pages that differ", sourceLocation: sourceLocation)
  }

  // MARK: - Machines

  func runDirectory() throws -> FilePath {
    let path = directory.appending("run-\(UUID().uuidString)")
    try Directories.create(path, mode: 0o711)
    return path
  }

  func configuration(_ generation: Generation, records: Bool = false) throws -> PagerConfiguration {
    PagerConfiguration(
      id: InstanceID(), store: store.directory, generation: generation.id, runDirectory: try runDirectory(),
      ownerUID: 0,
      recordsWorkingSet: records)
  }

  /// Restores a machine with its pager; both run.
  func restore(_ generation: Generation) async throws -> (TestMachine, any PagerProcess, PagerConfiguration) {
    let configuration = try configuration(generation)
    let pager = try await backend.launch(configuration)
    let machine = try await start(
      .userfault, in: configuration.runDirectory, memoryBytes: generation.manifest.memoryBytes)
    return (machine, pager, configuration)
  }

  func start(_ mode: TestMachine.Mode, in runDirectory: FilePath, memoryBytes: Int64) async throws -> TestMachine {
    let machine = try TestMachine(mode, in: runDirectory, memoryBytes: memoryBytes, shim: shim)
    #expect(try await machine.line() == "ready", "\(machine.errors)")
    return machine
  }
}

/// Waits until a condition becomes true.
func eventually(_ what: String, seconds: Double = 30, _ condition: () async throws -> Bool) async throws {
  let end = ContinuousClock.now + .seconds(seconds)
  while ContinuousClock.now < end {
    if try await condition() { return }
    try await Task.sleep(for: .milliseconds(10))
  }
  Issue.record("did not come true in \(seconds) s: \(what)")
  throw CancellationError()
}

func openDescriptors(of pid: Int32 = getpid()) throws -> [String] {
  try Directories.names(in: FilePath("/proc/\(pid)/fd")).compactMap {
    try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/fd/\($0)")
  }
}
