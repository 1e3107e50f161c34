import Glibc
import LinuxSystem
import SystemPackage

/// The buffer into which a pager reads the messages of its userfaultfd: a part of `removed.pages`, so that messages
/// that were read survive the pager.
///
/// The kernel lets a guest that removes pages continue as soon as it takes the message from its queue: before the pager
/// sees the message or records it. Therefore a pager's successor and the memory saver, which depend on the recorded
/// pages, also read this buffer.
///
/// | offset | bytes | field |
/// |---|---|---|
/// | 0 | 8 | turns, little-endian: odd while messages are being read and recorded |
/// | 8 | 64 × 32 | the messages of the last turn as the kernel wrote them; cleared when recorded |
final class MessageInbox {
  static let capacity = 64
  static let bytes = 8 + capacity * UserFaultMessages.bytesPerMessage
  /// Time within which a pager must record a few messages, or end after SIGKILL.
  static let patience: Duration = .seconds(10)

  private let file: SharedFile
  private let offset: Int
  private let messages: UserFaultMessages
  private var turns: UInt64
  private var taken = MessageInbox.capacity

  /// - Parameter offset: offset of the inbox in `file`; a multiple of 8.
  init(_ file: SharedFile, offset: Int) {
    self.file = file
    self.offset = offset
    messages = UserFaultMessages(
      UnsafeMutableRawBufferPointer(rebasing: file.bytes[(offset + 8)..<(offset + Self.bytes)]))
    turns = file.sharedWord(at: offset)
  }

  /// Removals that a pager read and did not record.
  private var unsettled: [Range<UInt64>] {
    (0..<Self.capacity).compactMap { index in
      guard case .remove(let addresses) = messages[index] else { return nil }
      return addresses
    }
  }

  // MARK: - For the pager

  /// Makes this process the reader of messages after its predecessor's end.
  /// - Returns: removals that the predecessor read and did not record; the caller records them and calls `settle()`.
  /// - Throws: `SystemError` with EBUSY when the predecessor does not end.
  func takeOver(patience: Duration = MessageInbox.patience) throws(SystemError) -> [Range<UInt64>] {
    let end = ContinuousClock.now + patience
    while try !file.lock() {
      guard ContinuousClock.now < end else { throw SystemError("lock", .resourceBusy, subject: "removed.pages") }
      usleep(1_000)
    }
    // While this process is being killed, the kernel still writes messages here if the page is in memory.
    file.keepInMemory(bytes: offset + Self.bytes)
    turns = file.sharedWord(at: offset) | 1
    file.setSharedWord(at: offset, turns)
    taken = Self.capacity
    return unsettled
  }

  /// Replaces the content of `events` with the waiting messages. The caller records them and calls `settle()`.
  func take(from faults: UserFaultDescriptor, into events: inout [UserFaultEvent]) throws(SystemError) {
    turns |= 1
    file.setSharedWord(at: offset, turns)
    taken = try faults.read(into: messages)
    events.removeAll(keepingCapacity: true)
    for index in 0..<taken { events.append(messages[index]) }
  }

  /// Marks all messages as recorded.
  func settle() {
    for index in 0..<taken { messages.clear(index) }
    turns += 1
    file.setSharedWord(at: offset, turns)
  }

  // MARK: - For others

  /// Returns the removals of the guest, which is stopped, that no pager has recorded or will record. Waits for a pager
  /// that is recording.
  /// - Throws: `SystemError` with ETIMEDOUT when a running pager makes no progress.
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
