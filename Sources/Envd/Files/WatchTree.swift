import CLinux
import Glibc
import LinuxSystem
import Protos
import SystemPackage

/// One change as the client sees it.
struct WatchChange: Equatable {
  /// Relative to the watched directory; `.` is the directory itself.
  let name: String
  let type: Filesystem_EventType
  /// Absolute.
  let path: String
}

/// Which directories are watched, and what an inotify event means for the client.
///
/// In a recursive watch a new directory is watched as soon as its creation is seen, and what it already contains by
/// then is reported as created, and as written when it has content; a creation that is found that way and reported by
/// the kernel too is reported once.
///
/// Source: inotify(7); event names as in E2B's envd contract
struct WatchTree {
  /// Most directories of one watch.
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
  /// Relative paths that were reported as found, whose own creation event may still come.
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

  /// - Throws: `resourceExhausted` when a new directory cannot be watched any more.
  mutating func handle(_ event: InotifyEvent, queue: Inotify) throws(FileFailure) -> [WatchChange] {
    if event.has(IN_IGNORED) {
      directories[event.watch] = nil
      return []
    }
    guard let directory = directories[event.watch] else { return [] }
    guard let name = event.name else { return event.watch == rootWatch ? changes(event, relative: ".") : [] }
    let relative = directory.isEmpty ? name : directory + "/" + name
    // Taken out by whatever is reported of the name first.
    if alreadyReported.remove(relative) != nil, event.has(IN_CREATE) { return [] }
    var changes = changes(event, relative: relative)
    guard isRecursive, event.has(IN_ISDIR) else { return changes }
    if event.has(IN_MOVED_FROM) { forget(relative, queue: queue) }
    if event.has(IN_CREATE) || event.has(IN_MOVED_TO) {
      let found = try addDirectory(relative, queue: queue)
      // What moved here with its directory was not created.
      if event.has(IN_CREATE) { changes += found }
    }
    return changes
  }

  /// The kernel has no more events: what was found by looking has no creation event to come.
  mutating func settle() {
    alreadyReported.removeAll()
  }

  private func changes(_ event: InotifyEvent, relative: String) -> [WatchChange] {
    let path = relative == "." ? root : GuestPath.joined(root, relative)
    let kinds: [(bits: Int32, type: Filesystem_EventType)] = [
      (IN_CREATE | IN_MOVED_TO, .create), (IN_MOVED_FROM | IN_MOVE_SELF, .rename),
      (IN_ATTRIB, .chmod), (IN_MODIFY, .write), (IN_DELETE | IN_DELETE_SELF, .remove),
    ]
    return kinds.filter { event.has($0.bits) }.map { WatchChange(name: relative, type: $0.type, path: path) }
  }

  /// Watches a directory and all below it. Returns what was found in it.
  private mutating func addDirectory(_ relative: String, queue: Inotify) throws(FileFailure) -> [WatchChange] {
    guard directories.count < Self.maximumDirectories else {
      throw FileFailure(.resourceExhausted, "a recursive watch covers at most \(Self.maximumDirectories) directories")
    }
    do throws(FileFailure) {
      let watch = try Self.watch(
        GuestPath.joined(root, relative), mask: Self.mask | UInt32(IN_DONT_FOLLOW), queue: queue)
      directories[watch] = relative
    } catch {
      // Gone again, or replaced by something else.
      if error.reason == .notFound || error.reason == .invalidArgument || error.reason == .failedPrecondition {
        return []
      }
      throw error
    }
    return try addContent(of: relative, queue: queue)
  }

  private mutating func addContent(of relative: String, queue: Inotify) throws(FileFailure) -> [WatchChange] {
    let path = GuestPath.joined(root, relative)
    guard let directory = try? OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY),
      let names = try? DirectoryNames.read(directory, path: path)
    else { return [] }
    var found: [WatchChange] = []
    for name in names.sorted(by: { $0.utf8.lexicographicallyPrecedes($1.utf8) }) {
      let child = relative.isEmpty ? name : relative + "/" + name
      found.append(WatchChange(name: child, type: .create, path: GuestPath.joined(root, child)))
      alreadyReported.insert(child)
      var status = stat()
      guard fstatat(directory.rawValue, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { continue }
      if status.st_mode & S_IFMT == S_IFDIR { found += try addDirectory(child, queue: queue) }
      // Whoever waits for content to come must not wait for a write that was before the watch.
      if status.st_mode & S_IFMT == S_IFREG, status.st_size > 0 {
        found.append(WatchChange(name: child, type: .write, path: GuestPath.joined(root, child)))
      }
    }
    return found
  }

  /// A directory left the tree, or got another name in it.
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
