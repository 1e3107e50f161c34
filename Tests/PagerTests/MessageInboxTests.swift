import Foundation
import LinuxSystem
import SystemPackage
import Testing

@testable import Pager

/// The inbox of a pager, as other processes read it.
@Suite struct MessageInboxTests {
  private let path = FilePath(FileManager.default.temporaryDirectory.path).appending(
    "martlet-inbox-\(UUID().uuidString)")

  /// An inbox with a descriptor of its own, as in another process.
  private func open() throws -> MessageInbox {
    MessageInbox(try SharedFile(path, sizeBytes: MessageInbox.bytes), offset: 0)
  }

  private func remove() { try? FileManager.default.removeItem(atPath: path.string) }

  /// Stores a removal as the kernel writes it, in the middle of a turn. Source: linux/userfaultfd.h, `struct uffd_msg`
  private func store(turns: UInt64, removal: Range<UInt64>) throws {
    let file = try SharedFile(path, sizeBytes: MessageInbox.bytes)
    file.setSharedWord(at: 8, 0x15)
    file.setSharedWord(at: 16, removal.lowerBound)
    file.setSharedWord(at: 24, removal.upperBound)
    file.setSharedWord(at: 0, turns)
  }

  @Test("a settled inbox is read without waiting")
  func settled() throws {
    defer { remove() }
    #expect(try open().waitUntilSettled() == [])
    try store(turns: 4, removal: 0x1000..<0x3000)
    #expect(try open().waitUntilSettled() == [])
  }

  @Test("removals of a killed pager are found by the memory saver and by its successor, once")
  func left() throws {
    defer { remove() }
    try store(turns: 7, removal: 0x1000..<0x3000)
    let other = try open()
    #expect(try other.waitUntilSettled() == [0x1000..<0x3000])
    let successor = try open()
    #expect(try successor.takeOver() == [0x1000..<0x3000])
    successor.settle()
    #expect(try other.waitUntilSettled() == [])
    #expect(FileManager.default.contents(atPath: path.string)?.dropFirst(8).allSatisfy { $0 == 0 } == true)
  }

  @Test("a running pager in the middle of a turn is awaited until a deadline")
  func waits() async throws {
    defer { remove() }
    let pager = try open()
    #expect(try pager.takeOver() == [])
    let other = try open()
    #expect(throws: SystemError.self) { try other.waitUntilSettled(patience: .milliseconds(20)) }
    #expect(throws: SystemError.self) { _ = try other.takeOver(patience: .milliseconds(20)) }
    let waiting = Task.detached { [path] in
      try MessageInbox(SharedFile(path, sizeBytes: MessageInbox.bytes), offset: 0).waitUntilSettled()
    }
    pager.settle()
    #expect(try await waiting.value == [])
  }
}
