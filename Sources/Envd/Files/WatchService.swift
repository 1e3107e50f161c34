import CLinux
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
