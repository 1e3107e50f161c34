import CLinux
import Glibc
import SystemPackage

/// One event of an inotify queue. Source: inotify(7).
package struct InotifyEvent: Sendable, Equatable {
  /// The watch that the event belongs to; -1 for a queue overflow.
  package let watch: Int32
  /// `IN_*` bits.
  package let mask: UInt32
  /// Name in the watched directory; nil when the event is about the watched directory itself.
  package let name: String?

  package init(watch: Int32, mask: UInt32, name: String?) {
    self.watch = watch
    self.mask = mask
    self.name = name
  }

  package func has(_ bit: Int32) -> Bool { mask & UInt32(bitPattern: bit) != 0 }
}

/// An inotify instance: a kernel queue of file events, bounded by fs.inotify.max_queued_events. Never blocks.
package final class Inotify: Sendable {
  /// Bytes read from the kernel at once; enough for at least 240 events with the longest names.
  package static let readBytes = 65_536

  private let descriptor: OwnedDescriptor

  /// - Throws: `SystemError` with EMFILE when fs.inotify.max_user_instances is reached.
  package init() throws(SystemError) {
    descriptor = OwnedDescriptor(
      try SystemError.check("inotify_init1") { inotify_init1(Int32(IN_CLOEXEC) | Int32(IN_NONBLOCK)) })
  }

  /// Readable when events wait; only for polling.
  package var rawDescriptor: Int32 { descriptor.rawValue }

  /// Watches a path, or changes the mask of the watch its inode already has.
  /// - Throws: `SystemError`; ENOSPC means that fs.inotify.max_user_watches is reached.
  package func add(_ path: String, mask: UInt32) throws(SystemError) -> Int32 {
    try SystemError.check("inotify_add_watch", path) { inotify_add_watch(descriptor.rawValue, path, mask) }
  }

  /// Removes a watch; an absent watch is success.
  package func remove(_ watch: Int32) {
    _ = inotify_rm_watch(descriptor.rawValue, watch)
  }

  /// Returns the waiting events, at most `readBytes` of them; empty when there are none.
  package func read() throws(SystemError) -> [InotifyEvent] {
    var buffer = [UInt8](repeating: 0, count: Self.readBytes)
    let count = Glibc.read(descriptor.rawValue, &buffer, buffer.count)
    if count < 0 {
      if errno == EAGAIN || errno == EINTR { return [] }
      throw SystemError.current("read", subject: "inotify")
    }
    return Self.parse(buffer.prefix(count))
  }

  /// Splits a read buffer into events; drops a truncated last event (the kernel never returns one).
  ///
  /// Layout: int32 wd, uint32 mask, uint32 cookie, uint32 len, then len bytes of name padded with zeros; native byte
  /// order.
  package static func parse(_ bytes: ArraySlice<UInt8>) -> [InotifyEvent] {
    var events: [InotifyEvent] = []
    bytes.withUnsafeBytes { raw in
      var offset = 0
      while offset + 16 <= raw.count {
        let length = Int(raw.loadUnaligned(fromByteOffset: offset + 12, as: UInt32.self))
        guard offset + 16 + length <= raw.count else { return }
        let name = raw[(offset + 16)..<(offset + 16 + length)].prefix { $0 != 0 }
        events.append(
          InotifyEvent(
            watch: raw.loadUnaligned(fromByteOffset: offset, as: Int32.self),
            mask: raw.loadUnaligned(fromByteOffset: offset + 4, as: UInt32.self),
            name: length == 0 ? nil : String(decoding: name, as: UTF8.self)))
        offset += 16 + length
      }
    }
    return events
  }
}
