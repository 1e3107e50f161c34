import Concurrency
import Glibc
import LinuxSystem
import Snapshots
import SystemPackage

/// Reads and checks a generation's working set on a thread of its own, so that neither the VMM nor faults wait for a
/// slow disk.
///
/// A damaged working set is removed, so that the next restore records another.
final class WorkingSetLoader: Sendable {
  private enum Progress: Sendable {
    case reading
    case read(WorkingSet?)
  }

  private let progress = Mutex(Progress.reading)
  /// The thread closes the write end when it is done.
  private let completion: (read: OwnedDescriptor, write: OwnedDescriptor)

  /// - Returns: nil when there is no working set.
  static func start(_ path: FilePath, for image: MemoryImage) throws(SystemError) -> WorkingSetLoader? {
    guard try FileStatus.of(path.string, followingLinks: false) != nil else { return nil }
    let loader = WorkingSetLoader(try OwnedDescriptor.pipe())
    Threads.start(name: "working-set") { loader.load(path, for: image) }
    return loader
  }

  private init(_ completion: (read: OwnedDescriptor, write: OwnedDescriptor)) {
    self.completion = completion
  }

  /// Becomes readable, for poll(2), when loading is done.
  var pollDescriptor: Int32 { completion.read.rawValue }

  var isOver: Bool {
    progress.withLock {
      guard case .reading = $0 else { return true }
      return false
    }
  }

  /// Returns the working set once; nil when there is no valid one.
  func take() -> WorkingSet? {
    progress.withLock {
      guard case .read(let set) = $0 else { return nil }
      $0 = .read(nil)
      return set
    }
  }

  private func load(_ path: FilePath, for image: MemoryImage) {
    let set = WorkingSet.load(path, for: image)
    if set == nil { unlink(path.string) }
    progress.withLock { $0 = .read(set) }
    completion.write.close()
  }
}
