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

/// One change for the client.
struct WatchChange: Equatable {
  /// Relative to the watched directory; `.` is the directory itself.
  let name: String
  let type: Filesystem_EventType
  /// Absolute.
  let path: String
}

/// The watched directories, and the translation of inotify events to changes.
///
/// A recursive watch adds a new directory when it sees its creation. The entries that the directory already has are
/// reported as created, and as written if they have content. If the kernel also reports such a creation, it is reported
/// only once.
///
/// Source: inotify(7); event names as in E2B's envd contract
struct WatchTree {
  /// Directories of one watch.
  static let maximumDirectories = 8_192

  private static let mask =
    UInt32(
      IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_MODIFY | IN_ATTRIB | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF
        | IN_ONLYDIR)

  private let root: String
  private let isRecursive: Bool
  private var rootWatch: Int32 = -1
  /// Relative path of each watched directory; the root's is empty.
  private var directories: [Int32: String] = [:]
  /// Relative paths that were found by reading a directory; the kernel may still report their creation.
  private var alreadyReported: Set<String> = []

  init(root: String, isRecursive: Bool, queue: Inotify) throws(FileFailure) {
    self.root = root
    self.isRecursive = isRecursive
    rootWatch = try Self.watch(root, mask: Self.mask, queue: queue)
    directories[rootWatch] = ""
    if isRecursive {
      _ = try addContent(of: "", queue: queue)
      settle()
    }
  }

  /// - Throws: `resourceExhausted` when a new directory cannot be watched.
  mutating func handle(_ event: InotifyEvent, queue: Inotify) throws(FileFailure) -> [WatchChange] {
    if event.has(IN_IGNORED) {
      directories[event.watch] = nil
      return []
    }
    guard let directory = directories[event.watch] else { return [] }
    guard let name = event.name else { return event.watch == rootWatch ? changes(event, relative: ".") : [] }
    let relative = directory.isEmpty ? name : directory + "/" + name
    // The first event of this name removes it.
    if alreadyReported.remove(relative) != nil, event.has(IN_CREATE) { return [] }
    var changes = changes(event, relative: relative)
    guard isRecursive, event.has(IN_ISDIR) else { return changes }
    if event.has(IN_MOVED_FROM) { forget(relative, queue: queue) }
    if event.has(IN_CREATE) || event.has(IN_MOVED_TO) {
      let found = try addDirectory(relative, queue: queue)
      // Entries that were moved here together with their directory were not created.
      if event.has(IN_CREATE) { changes += found }
    }
    return changes
  }

  /// Called when the kernel's queue is empty: no creation event can follow for entries that were found by reading.
  mutating func settle() {
    alreadyReported.removeAll()
  }

  private func changes(_ event: InotifyEvent, relative: String) -> [WatchChange] {
    let path = relative == "." ? root : LexicalPath.joined(root, relative)
    let kinds: [(bits: Int32, type: Filesystem_EventType)] = [
      (IN_CREATE | IN_MOVED_TO, .create), (IN_MOVED_FROM | IN_MOVE_SELF, .rename),
      (IN_ATTRIB, .chmod), (IN_MODIFY, .write), (IN_DELETE | IN_DELETE_SELF, .remove),
    ]
    return kinds.filter { event.has($0.bits) }.map { WatchChange(name: relative, type: $0.type, path: path) }
  }

  /// Watches a directory and everything below it. Returns the entries found.
  private mutating func addDirectory(_ relative: String, queue: Inotify) throws(FileFailure) -> [WatchChange] {
    guard directories.count < Self.maximumDirectories else {
      throw FileFailure(.resourceExhausted, "a recursive watch covers at most \(Self.maximumDirectories) directories")
    }
    do throws(FileFailure) {
      let watch = try Self.watch(
        LexicalPath.joined(root, relative), mask: Self.mask | UInt32(IN_DONT_FOLLOW), queue: queue)
      directories[watch] = relative
    } catch {
      // The directory has been removed or replaced.
      if error.reason == .notFound || error.reason == .invalidArgument || error.reason == .failedPrecondition {
        return []
      }
      throw error
    }
    return try addContent(of: relative, queue: queue)
  }

  private mutating func addContent(of relative: String, queue: Inotify) throws(FileFailure) -> [WatchChange] {
    let path = LexicalPath.joined(root, relative)
    guard let directory = try? OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY),
      let names = try? DirectoryNames.read(directory, path: path)
    else { return [] }
    var found: [WatchChange] = []
    for name in names.sorted(by: { $0.utf8.lexicographicallyPrecedes($1.utf8) }) {
      let child = relative.isEmpty ? name : relative + "/" + name
      found.append(WatchChange(name: child, type: .create, path: LexicalPath.joined(root, child)))
      alreadyReported.insert(child)
      var status = stat()
      guard fstatat(directory.rawValue, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { continue }
      if status.st_mode & S_IFMT == S_IFDIR { found += try addDirectory(child, queue: queue) }
      // A client that waits for content must also learn of a write before the watch.
      if status.st_mode & S_IFMT == S_IFREG, status.st_size > 0 {
        found.append(WatchChange(name: child, type: .write, path: LexicalPath.joined(root, child)))
      }
    }
    return found
  }

  /// A directory has left the tree or changed its name in it.
  private mutating func forget(_ relative: String, queue: Inotify) {
    for (watch, directory) in directories
    where directory == relative || directory.utf8.starts(with: (relative + "/").utf8) {
      queue.remove(watch)
      directories[watch] = nil
    }
  }

  private static func watch(_ path: String, mask: UInt32, queue: Inotify) throws(FileFailure) -> Int32 {
    do {
      return try queue.add(path, mask: mask)
    } catch {
      guard error.errno.rawValue == ENOSPC else { throw FileFailure(error, path: path) }
      throw FileFailure(.resourceExhausted, "the guest has no inotify watches left (fs.inotify.max_user_watches)")
    }
  }
}
