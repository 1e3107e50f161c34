import CLinux
import Glibc
import LinuxSystem
import Logging
import Model
import Snapshots

/// Saves the memory of one stopped VM in a separate process: it reads the parent's layers through mappings, and a disk
/// failure under a mapping ends only this process, not the host agent.
struct SavingProgram {
  private let arguments: SavingArguments

  init(_ arguments: SavingArguments) {
    self.arguments = arguments
  }

  /// - Returns: the exit code. The response is on standard output; without the command to start there is none.
  func run() -> Int32 {
    guard let response = save() else { return 0 }
    let bytes = Array(response.line.utf8)
    _ = write(STDOUT_FILENO, bytes, bytes.count)
    guard case .saved = response else { return PagerExitCode.unservable.rawValue }
    return 0
  }

  private func save() -> SavingResponse? {
    do {
      let store = SnapshotStore(directory: arguments.store, logger: Logger(label: "martlet.saving"))
      let parent = try arguments.parent.map { try openParent($0, in: store) }
      let draft = GenerationDraft(id: arguments.draft, directory: arguments.draftDirectory)
      let writer = try MemoryLayerWriter(draft, memoryBytes: arguments.memoryBytes, parent: parent)
      let dump = try MemoryDump(
        vmm: arguments.vmm, runDirectory: arguments.runDirectory, memoryBytes: arguments.memoryBytes)
      try confine()
      guard waitForStart() else { return nil }
      try dump.write(to: writer)
      let counts = try writer.finish()
      return .saved(SavedMemory(storedPages: counts.stored, zeroedPages: counts.zeroed, equalPages: counts.equal))
    } catch {
      let error = MartletError.wrapping(error)
      Logger(label: "martlet.saving").error("the memory was not saved", metadata: ["error": "\(error)"])
      return SavingResponse(error)
    }
  }

  /// From here on the process is the VMM's user, sees no file and may read the memory of this VMM only.
  private func confine() throws {
    guard let userID = try ProcessTable.userID(of: arguments.vmm) else {
      throw MartletError(.internalError, "the microVM has ended")
    }
    let namespace = OwnedDescriptor(PagerArguments.namespaceDescriptor)
    try Confinement(namespace: namespace, userID: userID, profile: .saver(subject: arguments.vmm)).enter()
  }

  /// Waits until the guest is stopped and the host agent commands the save.
  /// - Returns: false when the host agent abandons the save or has ended.
  private func waitForStart() -> Bool {
    var byte: UInt8 = 0
    while true {
      let count = read(STDIN_FILENO, &byte, 1)
      if count < 0 && errno == EINTR { continue }
      return count == 1
    }
  }

  private func openParent(_ id: GenerationID, in store: SnapshotStore) throws -> MemoryImage {
    let damage = SavingResponse(MartletError.damaged(id, .memoryLayer, "cannot be read"))
    guard clinux_end_on_bus_error(STDOUT_FILENO, damage.line, -1, PagerExitCode.unservable.rawValue) >= 0 else {
      throw SystemError.current("sigaction")
    }
    return try MemoryImage.open(try store.generation(id), in: store)
  }
}
