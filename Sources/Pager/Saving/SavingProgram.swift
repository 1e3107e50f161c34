import CLinux
import Glibc
import LinuxSystem
import Logging
import Model
import Snapshots

/// Saves the memory of one stopped VM, in a process of its own: it reads the parent's layers through mappings, and a
/// disk that fails under a mapping takes only this process down, not the agent and all it looks after.
struct SavingProgram {
  private let arguments: SavingArguments

  init(_ arguments: SavingArguments) {
    self.arguments = arguments
  }

  /// - Returns: the exit code; the answer is on standard output, nothing when the order to begin never came.
  func run() -> Int32 {
    guard let answer = save() else { return 0 }
    let bytes = Array(answer.line.utf8)
    _ = write(STDOUT_FILENO, bytes, bytes.count)
    guard case .saved = answer else { return PagerExitCode.unservable.rawValue }
    return 0
  }

  private func save() -> SavingAnswer? {
    do {
      let store = SnapshotStore(directory: arguments.store, logger: Logger(label: "martlet.saving"))
      let parent = try arguments.parent.map { try openParent($0, in: store) }
      let draft = GenerationDraft(id: arguments.draft, directory: arguments.draftDirectory)
      let writer = try MemoryLayerWriter(draft, memoryBytes: arguments.memoryBytes, parent: parent)
      guard awaitOrder() else { return nil }
      let dump = try MemoryDump(
        vmm: arguments.vmm, runDirectory: arguments.runDirectory, memoryBytes: arguments.memoryBytes)
      try dump.write(to: writer)
      let counts = try writer.finish()
      return .saved(SavedMemory(storedPages: counts.stored, zeroedPages: counts.zeroed, equalPages: counts.equal))
    } catch {
      let error = MartletError.wrapping(error)
      Logger(label: "martlet.saving").error("the memory was not saved", metadata: ["error": "\(error)"])
      return SavingAnswer(error)
    }
  }

  /// Returns when the guest stands still.
  /// - Returns: false when it will not: the agent has changed its mind, or is gone.
  private func awaitOrder() -> Bool {
    var byte: UInt8 = 0
    while true {
      let count = read(STDIN_FILENO, &byte, 1)
      if count < 0 && errno == EINTR { continue }
      return count == 1
    }
  }

  private func openParent(_ id: GenerationID, in store: SnapshotStore) throws -> MemoryImage {
    let damage = SavingAnswer(MartletError.damaged(id, .memoryLayer, "cannot be read"))
    guard clinux_end_on_bus_error(STDOUT_FILENO, damage.line, -1, PagerExitCode.unservable.rawValue) >= 0 else {
      throw SystemError.current("sigaction")
    }
    return try MemoryImage.open(try store.generation(id), in: store)
  }
}
