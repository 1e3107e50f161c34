import Glibc
import LinuxSystem
import Snapshots
import SystemPackage

/// Waits for page faults until the VM ends: spins while faults follow closely on each other, and sleeps in poll(2)
/// otherwise. Between faults it places the working set, if there is one.
final class PagerLoop {
  /// Number of consecutive faults after which the other descriptors are checked.
  private static let closeFaults = 1_024
  /// 64 KiB, some ten microseconds: a fault that arrives meanwhile is not delayed noticeably.
  static let pagesAtOnce = 16

  private let server: PageServer
  private let machine: ProcessHandle
  private let statistics: StatisticsFile
  /// The VMM's end closes it; nil after a replacement.
  private var connection: UnixSocket?
  /// Receives SIGUSR1, which ends the recording.
  private let signals: OwnedDescriptor
  private let recording: WorkingSetRecording?
  /// Nil once the working set has been loaded or there is none.
  private var loader: WorkingSetLoader?
  /// The part of the working set that has not been placed yet.
  private var pieces: WorkingSetPieces?
  private var spin = SpinPolicy(now: MonotonicClock.nanoseconds)
  private let busyBefore: Int
  private var busyNanoseconds: UInt64 = 0
  private var foundDamagedWorkingSet: Bool

  init(
    server: PageServer, machine: ProcessHandle, connection: UnixSocket?, signals: OwnedDescriptor,
    statistics: StatisticsFile,
    recording: WorkingSetRecording? = nil, loader: WorkingSetLoader? = nil
  ) {
    self.server = server
    self.machine = machine
    self.connection = connection
    self.signals = signals
    self.statistics = statistics
    self.recording = recording
    self.loader = loader
    busyBefore = statistics.value.busyMicroseconds
    foundDamagedWorkingSet = statistics.value.foundDamagedWorkingSet
  }

  /// Returns only by throwing; `machineEnded` is the normal end.
  func run() throws(PagerError) -> Never {
    while true {
      switch try turn() {
      case .nothing: break
      case .prefetched: continue
      case .served: try serveCloseFaults()
      }
      try sleep()
    }
  }

  enum Turn {
    case nothing
    case served
    /// Placed a part of the working set; there may be more.
    case prefetched
  }

  /// Serves all waiting faults, then places a small part of the working set.
  func turn() throws(PagerError) -> Turn {
    let served = try serve()
    return try prefetch() ? .prefetched : served ? .served : .nothing
  }

  private func serve() throws(PagerError) -> Bool {
    let begin = MonotonicClock.nanoseconds
    guard try server.serveWaiting() else { return false }
    count(since: begin)
    return true
  }

  private func prefetch() throws(PagerError) -> Bool {
    if let loaded = loader, loaded.isOver {
      pieces = loaded.take().map { WorkingSetPieces($0) }
      if loaded.foundDamage {
        foundDamagedWorkingSet = true
        publishStatistics()
      }
      loader = nil
    }
    let begin = MonotonicClock.nanoseconds
    guard let piece = pieces?.next(atMost: Self.pagesAtOnce) else {
      pieces = nil
      return false
    }
    try server.push(piece.pages, from: piece.bytes)
    count(since: begin)
    return true
  }

  private func count(since begin: UInt64) {
    busyNanoseconds += MonotonicClock.nanoseconds - begin
    publishStatistics()
  }

  private func publishStatistics() {
    var counted = server.statistics
    counted.busyMicroseconds = busyBefore + Int(busyNanoseconds / 1_000)
    counted.foundDamagedWorkingSet = foundDamagedWorkingSet
    statistics.value = counted
  }

  /// Spins for the next faults as long as that pays off.
  private func serveCloseFaults() throws(PagerError) {
    for _ in 0..<Self.closeFaults {
      if let loader, loader.isOver { return }
      let begin = MonotonicClock.nanoseconds
      let budget = spin.nanoseconds(now: begin)
      guard budget > 0 else { return }
      guard try spin(until: begin + budget) else { return spin.foundNothing() }
      spin.found()
    }
  }

  private func spin(until end: UInt64) throws(PagerError) -> Bool {
    repeat {
      if try serve() { return true }
    } while MonotonicClock.nanoseconds < end
    return false
  }

  private func sleep() throws(PagerError) {
    var polled = [
      pollfd(fd: server.faults.rawValue, events: Int16(POLLIN), revents: 0),
      pollfd(fd: connection?.descriptor.rawValue ?? -1, events: Int16(POLLIN), revents: 0),
      pollfd(fd: machine.pollDescriptor, events: Int16(POLLIN), revents: 0),
      pollfd(fd: signals.rawValue, events: Int16(POLLIN), revents: 0),
      pollfd(fd: loader?.pollDescriptor ?? -1, events: Int16(POLLIN), revents: 0),
    ]
    let begin = MonotonicClock.nanoseconds
    let count = poll(&polled, nfds_t(polled.count), recording?.millisecondsLeft ?? -1)
    guard count >= 0 else {
      if errno == EINTR { return }
      throw .system(.current("poll"))
    }
    if polled[2].revents != 0 { throw .machineEnded }
    if polled[0].revents & Int16(POLLIN) != 0 { spin.woke(after: MonotonicClock.nanoseconds - begin) }
    // A userfaultfd reports errors only before its hand-shake is complete.
    guard polled[0].revents & Int16(POLLERR | POLLNVAL) == 0 else { throw .refused("its userfaultfd does not work") }
    if polled[1].revents != 0 { try readConnection() }
    if polled[3].revents != 0 { drainSignals() }
    if polled[3].revents != 0 || recording?.millisecondsLeft == 0 { finishRecording() }
  }

  /// A VMM sends nothing after the hand-shake. The end of the stream means the end of the VM; after any other input the
  /// connection is ignored.
  private func readConnection() throws(PagerError) {
    guard let message = try? connection?.receive(maximumBytes: 64), !message.bytes.isEmpty else { throw .machineEnded }
    connection = nil
  }

  private func drainSignals() {
    var information = [UInt8](repeating: 0, count: 128)
    _ = read(signals.rawValue, &information, information.count)
  }

  private func finishRecording() {
    recording?.finish()
    server.use(FaultWindow())
    server.onWindow = nil
  }
}

enum MonotonicClock {
  static var nanoseconds: UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
  }
}
