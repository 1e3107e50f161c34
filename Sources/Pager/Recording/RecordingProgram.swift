import Glibc
import LinuxSystem
import Logging
import Model
import Snapshots
import SystemPackage

/// Writes the working set of one generation, in a process of its own beside the pager that records it.
///
/// The pager has no access to files, and says only which pages its guest needed; their content comes from the
/// generation's layers. This process is root without capabilities, which is enough to write root's files.
struct RecordingProgram {
  private let arguments: RecordingArguments
  private let logger: Logger

  init(_ arguments: RecordingArguments) {
    self.arguments = arguments
    var logger = Logger(label: "martlet.recording")
    logger[metadataKey: "snapshot.id"] = "\(arguments.generation)"
    self.logger = logger
  }

  /// - Returns: the exit code of the process. A pager that ends without a list is no failure.
  func run() -> Int32 {
    let windows = RecordedWindows.receive(from: STDIN_FILENO)
    guard !windows.isEmpty else { return 0 }
    do {
      let store = SnapshotStore(directory: arguments.store, logger: logger)
      let generation = try store.generation(arguments.generation)
      let image = try MemoryImage.open(generation, in: store)
      let count = try WorkingSet.write(windows, of: image, to: generation.workingSetPath)
      logger.info("the working set was recorded", metadata: ["pages": "\(count)"])
      return 0
    } catch {
      logger.warning("the working set could not be written", metadata: ["error": "\(error)"])
      return PagerExitCode.unservable.rawValue
    }
  }
}

/// The command line of a recording process: `martlet working-set --store … --generation …`.
struct RecordingArguments: Equatable, Sendable {
  static let command = "working-set"

  var store: FilePath
  var generation: GenerationID

  init(store: FilePath, generation: GenerationID) {
    self.store = store
    self.generation = generation
  }

  /// Without the program's name.
  var encoded: [String] { [Self.command, "--store", store.string, "--generation", generation.wire] }

  /// Nil for anything that `encoded` does not give.
  init?(_ words: [String]) {
    guard words.first == Self.command, var options = CommandOptions(words.dropFirst()),
      let store = options.take("--store"),
      let generation = options.take("--generation").flatMap({ GenerationID(wire: $0) }), options.isEmpty
    else { return nil }
    self.init(store: FilePath(store), generation: generation)
  }
}

/// The pages that a guest needed first, on their way from the pager to the recording process: pairs of first page and
/// count, 32 bits each, little-endian, until the end of the stream.
enum RecordedWindows {
  static let maximumBytes = 8 * WorkingSet.maximumPages
  /// A page's number fits with room to add a count.
  private static let pageLimit = UInt32(1) << 30

  static func send(_ windows: [Range<PageIndex>], to output: OwnedDescriptor) {
    var words: [UInt32] = []
    for window in windows.prefix(WorkingSet.maximumPages) {
      words += [UInt32(clamping: window.lowerBound).littleEndian, UInt32(clamping: window.count).littleEndian]
    }
    words.withUnsafeBytes { bytes in
      var done = 0
      while done < bytes.count {
        let count = write(output.rawValue, bytes.baseAddress.map { $0 + done }, bytes.count - done)
        if count < 0 && errno == EINTR { continue }
        guard count > 0 else { return }
        done += count
      }
    }
  }

  /// What came; pairs that say nothing of a memory, a rest of one and what is too much are left out. Blocks until the
  /// other end is closed.
  static func receive(from input: Int32) -> [Range<PageIndex>] {
    var content = [UInt8](repeating: 0, count: maximumBytes)
    var count = 0
    while count < content.count {
      let got = content.withUnsafeMutableBytes { read(input, $0.baseAddress.map { $0 + count }, $0.count - count) }
      if got < 0 && errno == EINTR { continue }
      guard got > 0 else { break }
      count += got
    }
    return decode(content[0..<count])
  }

  static func decode(_ content: ArraySlice<UInt8>) -> [Range<PageIndex>] {
    content.withUnsafeBytes { bytes in
      (0..<(bytes.count / 8)).compactMap { index in
        let first = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: index * 8, as: UInt32.self))
        let count = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: index * 8 + 4, as: UInt32.self))
        guard first < pageLimit, count > 0, count <= UInt32(WorkingSet.maximumPages) else { return nil }
        return Int(first)..<(Int(first) + Int(count))
      }
    }
  }
}
