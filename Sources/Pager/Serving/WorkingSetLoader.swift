import Concurrency
import Glibc
import LinuxSystem
import Snapshots
import SystemPackage

/// Reads and checks a generation's working set on a thread of its own, so that neither the VMM nor faults wait for a
/// slow disk.
///
/// The file is opened before the process gives up its privileges, and read afterwards. That it is damaged is in the
/// statistics: the agent removes it, so that a later restore records another.
final class WorkingSetLoader: Sendable {
  private enum Progress: Sendable {
    case reading
    case read(WorkingSet?)
  }

  private let progress = Mutex(Progress.reading)
  private let wasDamaged = Mutex(false)
  /// The end that the thread closes when it is done.
  private let completion: (read: OwnedDescriptor, write: OwnedDescriptor)

  /// Opens what may be a working set; removes what is no file, which the process still has the privileges for.
  /// - Returns: nil when there is nothing to load.
  static func open(_ path: FilePath) throws(SystemError) -> OwnedDescriptor? {
    guard let status = try FileStatus.of(path.string, followingLinks: false) else { return nil }
    guard status.kind == .file else {
      unlink(path.string)
      return nil
    }
    return try WorkingSet.open(path)
  }

  static func start(_ file: OwnedDescriptor, for image: MemoryImage) throws(SystemError) -> WorkingSetLoader {
    let loader = WorkingSetLoader(try OwnedDescriptor.pipe())
    Threads.start(name: "working-set") { loader.load(file, for: image) }
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

  /// Whether it is over and there was none that is right.
  var foundDamage: Bool {
    wasDamaged.withLock { $0 }
  }

  private func load(_ file: OwnedDescriptor, for image: MemoryImage) {
    let set = WorkingSet.load(file, for: image)
    file.close()
    wasDamaged.withLock { $0 = set == nil }
    progress.withLock { $0 = .read(set) }
    completion.write.close()
  }
}
