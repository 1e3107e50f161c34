import Glibc
import LinuxSystem
import Snapshots

/// Records the pages that a guest needs in its first moments, in order, until `finish` is called or the time is over.
final class WorkingSetRecording {
  static let seconds: UInt64 = 3
  /// Longer than a disk needs to write a working set.
  private static let writeSeconds: UInt64 = 30

  private let end = MonotonicClock.nanoseconds + seconds * 1_000_000_000
  private let write: @Sendable ([Range<PageIndex>]) -> Void
  private var windows: [Range<PageIndex>] = []
  private var pages = 0
  private var isFinished = false
  /// The writing thread closes the write end when it is done.
  private let completion: (read: OwnedDescriptor, write: OwnedDescriptor)

  /// - Parameter write: stores the windows; called at most once, on a thread of its own, so that faults are served
  ///   meanwhile.
  init(write: @escaping @Sendable ([Range<PageIndex>]) -> Void) throws(SystemError) {
    self.write = write
    completion = try OwnedDescriptor.pipe()
  }

  func record(_ window: Range<PageIndex>) {
    guard pages + window.count <= WorkingSet.maximumPages else { return }
    pages += window.count
    windows.append(window)
  }

  /// Milliseconds until the time is over, for poll(2); -1 when the recording is finished.
  var millisecondsLeft: Int32 {
    guard !isFinished else { return -1 }
    let now = MonotonicClock.nanoseconds
    return now < end ? Int32((end - now) / 1_000_000) + 1 : 0
  }

  /// Stores the recorded windows on another thread. Idempotent.
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

  /// Returns when the write that `finish` began is done.
  func waitUntilWritten() {
    guard isFinished else { return }
    var polled = pollfd(fd: completion.read.rawValue, events: Int16(POLLIN), revents: 0)
    _ = poll(&polled, 1, Int32(Self.writeSeconds * 1_000))
  }
}
