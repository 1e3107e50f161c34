import CLinux
import Concurrency
import Connect
import ConnectServer
import Glibc
import HTTPTypes
import LinuxSystem
import Protos
import SwiftProtobuf

/// The watch methods of `filesystem.Filesystem`.
///
/// Source: E2B's envd contract
struct WatchService: Sendable {
  let files: FilesystemService
  let watchers: WatcherRegistry

  func register(on connect: ConnectRouter<AgentRequestContext>) {
    connect.serverStream(FilesystemService.name, "WatchDir") { (request: Filesystem_WatchDirRequest, context, writer) in
      try await stream(request, context, writer)
    }
    connect.unary(FilesystemService.name, "CreateWatcher") { (request: Filesystem_CreateWatcherRequest, context) in
      let options = WatchOptions(
        isRecursive: request.recursive, includesEntry: request.includeEntry,
        allowsNetworkMounts: request.allowNetworkMounts)
      let watch = try await open(request.path, options, context)
      return try mappingErrors { try Filesystem_CreateWatcherResponse.with { $0.watcherID = try watchers.add(watch) } }
    }
    connect.unary(FilesystemService.name, "GetWatcherEvents") { (request: Filesystem_GetWatcherEventsRequest, _) in
      let watch = try mappingErrors { try watchers.watch(request.watcherID) }
      let events = try await mappingErrors { try await FileThreads.run { try watch.drain() } }
      return Filesystem_GetWatcherEventsResponse.with { $0.events = events }
    }
    connect.unary(FilesystemService.name, "RemoveWatcher") { (request: Filesystem_RemoveWatcherRequest, _) in
      try mappingErrors { try watchers.remove(request.watcherID) }
      return Filesystem_RemoveWatcherResponse()
    }
  }

  /// Streams events. Ends when the client disconnects (the task is cancelled) or when events were lost.
  private func stream(
    _ request: Filesystem_WatchDirRequest, _ context: ConnectContext,
    _ writer: ConnectWriter<Filesystem_WatchDirResponse>
  ) async throws {
    let options = WatchOptions(
      isRecursive: request.recursive, includesEntry: request.includeEntry,
      allowsNetworkMounts: request.allowNetworkMounts)
    let watch = try await open(request.path, options, context)
    let interval = CallHeaders.keepAliveInterval(in: context.headers)
    try await writer.write(.with { $0.start = .init() })
    while true {
      let isReadable = await Self.waitUntilReadable(watch, for: interval)
      try Task.checkCancellation()
      let events = isReadable ? try await mappingErrors { try await FileThreads.run { try watch.drain() } } : []
      for event in events { try await writer.write(.with { $0.filesystem = event }) }
      if !isReadable { try await writer.write(.with { $0.keepalive = .init() }) }
    }
  }

  private func open(_ path: String, _ options: WatchOptions, _ context: ConnectContext) async throws -> DirectoryWatch {
    let path = try files.resolve(context, path).path
    let entries = options.includesEntry ? EntryReader(users: files.users) : nil
    return try await mappingErrors {
      try await FileThreads.run {
        try options.check(path)
        return try DirectoryWatch(path: path, isRecursive: options.isRecursive, entries: entries)
      }
    }
  }

  /// - Returns: false when `limit` passed first.
  private static func waitUntilReadable(_ watch: DirectoryWatch, for limit: Duration) async -> Bool {
    await withTaskGroup(of: Bool.self) { group in
      group.addTask {
        await DescriptorWatcher.shared.waitUntilReadable(watch.rawDescriptor)
        return true
      }
      group.addTask {
        try? await Task.sleep(for: limit)
        return false
      }
      defer { group.cancelAll() }
      return await group.next() ?? false
    }
  }

  private func mappingErrors<Value>(_ body: () throws -> Value) throws(ConnectError) -> Value {
    do {
      return try body()
    } catch {
      throw FileFailure.describing(error).connectError
    }
  }

  private func mappingErrors<Value: Sendable>(_ body: () async throws -> Value) async throws(ConnectError) -> Value {
    do {
      return try await body()
    } catch {
      throw FileFailure.describing(error).connectError
    }
  }
}

/// Options of a watch.
private struct WatchOptions: Sendable {
  let isRecursive: Bool
  let includesEntry: Bool
  let allowsNetworkMounts: Bool

  /// - Throws: `notFound`, or `invalidArgument` for a file or for a network mount that is not allowed.
  func check(_ path: String) throws(FileFailure) {
    var status = stat()
    guard stat(path, &status) == 0 else { throw FileFailure(.current("stat", subject: path), path: path) }
    guard status.st_mode & S_IFMT == S_IFDIR else {
      throw FileFailure(.invalidArgument, "path \(path) is not a directory")
    }
    if !allowsNetworkMounts, try NetworkMount.contains(path) {
      throw FileFailure(.invalidArgument, "cannot watch path on network filesystem: \(path)")
    }
  }
}

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

/// Detects paths on network file systems, where inotify does not see changes by other machines.
///
/// Source: statfs(2), linux/magic.h
enum NetworkMount {
  private static let magics: Set<UInt32> = [
    0x6969,  // NFS
    0xFF53_4D42,  // CIFS
    0x517B,  // SMB
    0xFE53_4D42,  // SMB2
    0x6573_5546,  // FUSE
    0x0102_1997,  // 9P
    0x5346_414F,  // AFS
    0x00C3_6400,  // Ceph
  ]

  static func contains(_ path: String) throws(FileFailure) -> Bool {
    var status = statfs()
    guard statfs(path, &status) == 0 else { throw FileFailure(.current("statfs", subject: path), path: path) }
    return magics.contains(UInt32(truncatingIfNeeded: status.f_type))
  }
}
