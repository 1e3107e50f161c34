import Concurrency
import LinuxSystem

/// The watchers of clients that poll (CreateWatcher, GetWatcherEvents, RemoveWatcher).
///
/// Each watcher has a task that empties its kernel queue, so that new directories of a recursive watch are added at
/// once and not at the next poll. Clients that disappear leave watchers behind; when there are too many, the least
/// recently polled one is removed.
final class WatcherRegistry: Sendable {
  /// By default the kernel allows root 128 inotify instances; the rest is for streams and for the users' programs.
  static let maximumWatchers = 64
  /// A watcher that was polled within this time is in use and not removed.
  static let idleTime = Duration.seconds(600)

  private struct Watcher {
    let watch: DirectoryWatch
    let pump: Task<Void, Never>
    var lastUse: ContinuousClock.Instant
  }

  private let watchers = Mutex<[String: Watcher]>([:])

  /// - Returns: the new watcher's id.
  /// - Throws: `resourceExhausted` when too many watchers are in use.
  func add(_ watch: DirectoryWatch) throws(FileFailure) -> String {
    let id = "w" + String(UInt64.random(in: 1...UInt64.max), radix: 36)
    let now = ContinuousClock.now
    try watchers.withLock { (watchers) throws(FileFailure) in
      if watchers.count >= Self.maximumWatchers { try Self.evict(from: &watchers, now: now) }
      watchers[id] = Watcher(watch: watch, pump: Self.startPump(watch), lastUse: now)
    }
    return id
  }

  /// - Throws: `notFound`.
  func watch(_ id: String) throws(FileFailure) -> DirectoryWatch {
    try watchers.withLock { (watchers) throws(FileFailure) in
      guard let watcher = watchers[id] else { throw Self.notFound(id) }
      watchers[id]?.lastUse = .now
      return watcher.watch
    }
  }

  /// - Throws: `notFound`.
  func remove(_ id: String) throws(FileFailure) {
    guard let watcher = watchers.withLock({ $0.removeValue(forKey: id) }) else { throw Self.notFound(id) }
    watcher.pump.cancel()
  }

  private static func evict(from watchers: inout [String: Watcher], now: ContinuousClock.Instant) throws(FileFailure) {
    guard let oldest = watchers.min(by: { $0.value.lastUse < $1.value.lastUse }), oldest.value.lastUse + idleTime <= now
    else {
      throw FileFailure(.resourceExhausted, "there are already \(maximumWatchers) watchers; remove some first")
    }
    watchers.removeValue(forKey: oldest.key)?.pump.cancel()
  }

  /// An unstructured task, because the watcher outlives the request that has created it. Ends when the watcher is
  /// removed.
  private static func startPump(_ watch: DirectoryWatch) -> Task<Void, Never> {
    Task {
      while !Task.isCancelled {
        await DescriptorWatcher.shared.waitUntilReadable(watch.rawDescriptor)
        guard (try? await FileThreads.run { watch.pump() }) != nil, !watch.hasFailed else { return }
      }
    }
  }

  private static func notFound(_ id: String) -> FileFailure {
    FileFailure(.notFound, "watcher with id \(id.prefix(64)) not found")
  }
}
