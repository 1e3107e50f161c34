import Glibc
import LinuxSystem
import Snapshots

/// Notes which pages a guest needs in its first moments, in order, until it is told that these are over or time is up.
final class WorkingSetRecording {
  static let seconds: UInt64 = 3
  /// Longer than a disk needs for that much.
  private static let writeSeconds: UInt64 = 30

  private let end = MonotonicClock.nanoseconds + seconds * 1_000_000_000
  private let write: @Sendable ([Range<PageIndex>]) -> Void
  private var windows: [Range<PageIndex>] = []
  private var pages = 0
  private var isFinished = false
  /// The writing thread's end is closed when it is done.
  private let completion: (read: OwnedDescriptor, write: OwnedDescriptor)

  /// - Parameter write: stores the windows; called at most once, on a thread of its own, so that faults go on being
  ///   served.
  init(write: @escaping @Sendable ([Range<PageIndex>]) -> Void) throws(SystemError) {
    self.write = write
    completion = try OwnedDescriptor.pipe()
  }

  func record(_ window: Range<PageIndex>) {
    guard pages + window.count <= WorkingSet.maximumPages else { return }
    pages += window.count
    windows.append(window)
  }

  /// Until time is up, for poll(2): -1 when there is nothing to wait for.
  var millisecondsLeft: Int32 {
    guard !isFinished else { return -1 }
    let now = MonotonicClock.nanoseconds
    return now < end ? Int32((end - now) / 1_000_000) + 1 : 0
  }

  /// Stores what was noted. Idempotent.
  func finish() {
    guard !isFinished else { return }
    isFinished = true
    let windows = windows
    let write = write
    let done = completion.write
    Threads.start(name: "working-set") {
      write(windows)
      done.close()
    }
  }

  /// Returns when what `finish` began is done.
  func waitUntilWritten() {
    guard isFinished else { return }
    var polled = pollfd(fd: completion.read.rawValue, events: Int16(POLLIN), revents: 0)
    _ = poll(&polled, 1, Int32(Self.writeSeconds * 1_000))
  }
}
