import Glibc
import LinuxSystem
import SystemPackage

/// Where a pager takes the messages of its userfaultfd: a part of `removed.pages`, so that what was taken is not lost
/// with the pager.
///
/// The kernel lets a guest that gives pages back go on when it takes the message out of its queue: before the pager
/// sees the message, let alone notes it. Whoever goes by the noted pages looks here too: a pager's successor, and who
/// saves the memory meanwhile.
///
/// | offset | bytes | field |
/// |---|---|---|
/// | 0 | 8 | turns, little-endian: odd while messages are being taken and noted |
/// | 8 | 64 × 32 | the messages of the last turn as the kernel wrote them; empty where noted |
final class MessageInbox {
  static let capacity = 64
  static let bytes = 8 + capacity * UserFaultMessages.bytesPerMessage
  /// How long a pager may take to note a few messages, or to end after SIGKILL.
  static let patience: Duration = .seconds(10)

  private let file: SharedFile
  private let offset: Int
  private let messages: UserFaultMessages
  private var turns: UInt64
  private var taken = MessageInbox.capacity

  /// - Parameter offset: of the inbox in `file`; a multiple of 8.
  init(_ file: SharedFile, offset: Int) {
    self.file = file
    self.offset = offset
    messages = UserFaultMessages(
      UnsafeMutableRawBufferPointer(rebasing: file.bytes[(offset + 8)..<(offset + Self.bytes)]))
    turns = file.sharedWord(at: offset)
  }

  /// What was taken and not noted by who took it.
  private var unsettled: [Range<UInt64>] {
    (0..<Self.capacity).compactMap { index in
      guard case .remove(let addresses) = messages[index] else { return nil }
      return addresses
    }
  }

  // MARK: - For the pager

  /// Makes this process the one that takes messages, after the end of a predecessor.
  /// - Returns: what that one took and did not note; `settle()` follows.
  /// - Throws: `SystemError` with EBUSY when the predecessor does not end.
  func takeOver(patience: Duration = MessageInbox.patience) throws(SystemError) -> [Range<UInt64>] {
    let end = ContinuousClock.now + patience
    while try !file.lock() {
      guard ContinuousClock.now < end else { throw SystemError("lock", .resourceBusy, subject: "removed.pages") }
      usleep(1_000)
    }
    // The kernel writes messages here also while this process is being killed, as long as the page is in memory.
    file.keepInMemory(bytes: offset + Self.bytes)
    turns = file.sharedWord(at: offset) | 1
    file.setSharedWord(at: offset, turns)
    taken = Self.capacity
    return unsettled
  }

  /// Replaces the content of `events` by the waiting messages. After noting them, `settle()`.
  func take(from faults: UserFaultDescriptor, into events: inout [UserFaultEvent]) throws(SystemError) {
    turns |= 1
    file.setSharedWord(at: offset, turns)
    taken = try faults.read(into: messages)
    events.removeAll(keepingCapacity: true)
    for index in 0..<taken { events.append(messages[index]) }
  }

  /// Everything that was taken is noted.
  func settle() {
    for index in 0..<taken { messages.clear(index) }
    turns += 1
    file.setSharedWord(at: offset, turns)
  }

  // MARK: - For others

  /// What the guest, which is stopped, gave back and no pager has noted or will note. Waits for one that is about to.
  /// - Throws: `SystemError` with ETIMEDOUT when a living pager does not go on.
  func waitUntilSettled(patience: Duration = MessageInbox.patience) throws(SystemError) -> [Range<UInt64>] {
    let end = ContinuousClock.now + patience
    let turns = file.sharedWord(at: offset)
    guard turns % 2 == 1 else { return [] }
    while file.sharedWord(at: offset) == turns {
      if try !file.isLockedElsewhere() { return unsettled }
      guard ContinuousClock.now < end else { throw SystemError("wait", .timedOut, subject: "the pager") }
      usleep(200)
    }
    return []
  }
}
