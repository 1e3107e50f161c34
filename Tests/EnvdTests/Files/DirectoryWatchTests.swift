import Glibc
import LinuxSystem
import NIOCore
import Protos
import Testing

@testable import Envd

@Suite("directory watches")
struct DirectoryWatchTests {
  private let directory: TemporaryDirectory

  init() throws {
    directory = try TemporaryDirectory()
  }

  @Test("inotify records are split by their lengths; truncated ones are dropped")
  func parse() {
    let record: [UInt8] =
      [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0] + [UInt8(ascii: "a"), UInt8(ascii: "b"), 0, 0]
    let expected = InotifyEvent(watch: 1, mask: 0x100, name: "ab")
    #expect(Inotify.parse(record[...]) == [expected])
    #expect(Inotify.parse((record + record.dropLast())[...]) == [expected])
    #expect(Inotify.parse(record.prefix(10)) == [])
  }

  @Test("create, write, chmod, rename and remove have different event types")
  func changes() throws {
    let watch = try DirectoryWatch(path: directory.root, isRecursive: false, entries: nil)
    let upload = try OpenedUpload.open(directory.path("f"), for: Self.user)
    try upload.write([.init(string: "x")])
    try upload.finish(metadata: FileMetadata())
    rename(directory.path("f"), directory.path("g"))
    unlink(directory.path("g"))
    #expect(try Self.text(watch) == ["create f", "chmod f", "write f", "rename f", "create g", "remove g"])
    #expect(try Self.text(watch) == [])
  }

  @Test("only a recursive watch reports events in subdirectories, and each creation once")
  func recursive() throws {
    try directory.makeDirectory("old")
    let flat = try DirectoryWatch(path: directory.root, isRecursive: false, entries: nil)
    let deep = try DirectoryWatch(path: directory.root, isRecursive: true, entries: nil)
    mkdir(directory.path("old/a"), 0o755)
    mkdir(directory.path("new"), 0o755)
    mkdir(directory.path("new/b"), 0o755)
    #expect(try Self.text(flat) == ["create new"])
    #expect(try Self.text(deep) == ["create old/a", "create new", "create new/b"])
    mkdir(directory.path("new/b/c"), 0o755)
    #expect(try Self.text(deep) == ["create new/b/c"])
  }

  @Test("a directory that moves within the tree is watched under its new name; one that leaves it is not")
  func moves() throws {
    let outside = try TemporaryDirectory()
    try directory.makeDirectory("a/sub")
    let watch = try DirectoryWatch(path: directory.root, isRecursive: true, entries: nil)
    rename(directory.path("a"), directory.path("b"))
    #expect(try Self.text(watch) == ["rename a", "create b"])
    mkdir(directory.path("b/sub/x"), 0o755)
    #expect(try Self.text(watch) == ["create b/sub/x"])
    rename(directory.path("b"), outside.path("b"))
    mkdir(outside.path("b/y"), 0o755)
    #expect(try Self.text(watch) == ["rename b"])
  }

  @Test("the removal of the watched directory is reported")
  func removal() throws {
    try directory.makeDirectory("d")
    let watch = try DirectoryWatch(path: directory.path("d"), isRecursive: true, entries: nil)
    rmdir(directory.path("d"))
    #expect(try Self.text(watch).last == "remove .")
  }

  @Test("events of existing files carry their entries")
  func entries() throws {
    let watch = try DirectoryWatch(
      path: directory.root, isRecursive: false, entries: EntryReader(users: UserDatabase()))
    mkdir(directory.path("d"), 0o755)
    mkdir(directory.path("removed"), 0o755)
    rmdir(directory.path("removed"))
    let events = try watch.drain()
    #expect(events.map(\.hasEntry) == [true, false, false])
    #expect(events.first?.entry.path == directory.path("d"))
  }

  @Test("an overflow of the event queue is reported as an error")
  func overflow() throws {
    let watch = try DirectoryWatch(path: directory.root, isRecursive: false, entries: nil)
    for number in 0...(DirectoryWatch.maximumEvents / 2) {
      mkdir(directory.path("d\(number)"), 0o755)
      rmdir(directory.path("d\(number)"))
      if number % 1_000 == 0 { watch.pump() }
    }
    #expect(try watch.drain().count <= DirectoryWatch.maximumEvents)
    #expect { try watch.drain() } throws: { ($0 as? FileFailure)?.reason == .dataLoss }
  }

  @Test("the number of watchers is bounded, and removed watchers are not found")
  func registry() throws {
    let registry = WatcherRegistry()
    let watch = try DirectoryWatch(path: directory.root, isRecursive: false, entries: nil)
    let ids = try (0..<WatcherRegistry.maximumWatchers).map { _ in try registry.add(watch) }
    #expect(Set(ids).count == ids.count)
    #expect { try registry.add(watch) } throws: { ($0 as? FileFailure)?.reason == .resourceExhausted }
    for id in ids { try registry.remove(id) }
    #expect { try registry.watch(ids[0]) } throws: { ($0 as? FileFailure)?.reason == .notFound }
    #expect { try registry.remove(ids[0]) } throws: { ($0 as? FileFailure)?.reason == .notFound }
  }

  @Test("a local directory is not a network mount")
  func networkMount() throws {
    #expect(try !NetworkMount.contains(directory.root))
    #expect { try NetworkMount.contains("/nonexistent") } throws: { ($0 as? FileFailure)?.reason == .notFound }
  }

  private static let user = GuestUser(name: "u", uid: 1, gid: 1, groups: [1], home: "/", shell: "/bin/sh")

  private static func text(_ watch: DirectoryWatch) throws -> [String] {
    try watch.drain().map { "\($0.type) \($0.name)" }
  }
}
