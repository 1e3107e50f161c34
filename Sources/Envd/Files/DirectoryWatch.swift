import CLinux
import Concurrency
import Glibc
import LinuxSystem
import Protos
import SystemPackage

/// A watched directory or directory tree, with the events that the client has not fetched yet.
///
/// Lost events are always reported: when the kernel's queue or this one overflows, `drain` throws `dataLoss` from then
/// on. The methods make file system calls that may block for a moment; they never wait for events.
final class DirectoryWatch: Sendable {
  /// Events that wait for a slow or absent client.
  static let maximumEvents = 16_384

  private struct State {
    var tree: WatchTree
    var events: [Filesystem_FilesystemEvent] = []
    var failure: FileFailure?
  }

  private let queue: Inotify
  private let entries: EntryReader?
  private let state: Mutex<State>

  /// - Parameter entries: adds the entry to create, write and chmod events; nil adds none.
  init(path: String, isRecursive: Bool, entries: EntryReader?) throws(FileFailure) {
    self.entries = entries
    do {
      queue = try Inotify()
    } catch {
      throw FileFailure(.resourceExhausted, "the guest has too many watchers; remove some first")
    }
    state = Mutex(State(tree: try WatchTree(root: path, isRecursive: isRecursive, queue: queue)))
  }

  /// Readable when the kernel's queue has events.
  var rawDescriptor: Int32 { queue.rawDescriptor }

  /// Whether events were lost. No further events are collected then.
  var hasFailed: Bool { state.withLock { $0.failure != nil } }

  /// Collects the events of the kernel's queue. Called whenever `rawDescriptor` is readable.
  func pump() {
    state.withLock { state in
      do {
        try collect(&state)
      } catch {
        state.failure = state.failure ?? FileFailure.describing(error)
      }
    }
  }

  /// Returns all events since the last call, including those in the kernel's queue.
  /// - Throws: `dataLoss` once events were lost. The watch is unusable then.
  func drain() throws(FileFailure) -> [Filesystem_FilesystemEvent] {
    try state.withLock { (state) throws(FileFailure) in
      do {
        try collect(&state)
      } catch {
        state.failure = state.failure ?? FileFailure.describing(error)
      }
      if state.events.isEmpty, let failure = state.failure { throw failure }
      defer { state.events.removeAll() }
      return state.events
    }
  }

  private func collect(_ state: inout State) throws {
    while state.failure == nil {
      let incoming = try queue.read()
      if incoming.isEmpty { return state.tree.settle() }
      for event in incoming { try handle(event, &state) }
    }
  }

  private func handle(_ event: InotifyEvent, _ state: inout State) throws(FileFailure) {
    guard !event.has(IN_Q_OVERFLOW) else { throw Self.eventsLost }
    for change in try state.tree.handle(event, queue: queue) {
      guard state.events.count < Self.maximumEvents else { throw Self.eventsLost }
      state.events.append(message(change))
    }
  }

  private func message(_ change: WatchChange) -> Filesystem_FilesystemEvent {
    var event = Filesystem_FilesystemEvent()
    event.name = change.name
    event.type = change.type
    let hasEntry = change.type == .create || change.type == .write || change.type == .chmod
    // Best effort: the file may have been removed.
    if hasEntry, let entries, let entry = try? entries.entry(change.path) { event.entry = entry }
    return event
  }

  private static let eventsLost = FileFailure(
    .dataLoss, "file events were lost because they came faster than they were fetched; create a new watcher")
}
