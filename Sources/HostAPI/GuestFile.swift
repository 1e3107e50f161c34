package import Foundation
package import Model
package import NIOCore

/// Bytes in parts, pulled by the consumer, so that back pressure reaches the producer.
package typealias ByteStream = any AsyncSequence<ByteBuffer, any Error> & Sendable

package struct FileDownload: Sendable {
  /// Nil when the guest does not know the size in advance, such as for files in /proc.
  package var sizeBytes: Int64?
  package var body: ByteStream
  /// Makes a pending read of `body` throw the given error; used when the source has disappeared without an end of
  /// stream.
  package var interrupt: @Sendable (MartletError) -> Void

  package init(sizeBytes: Int64?, body: ByteStream, interrupt: @escaping @Sendable (MartletError) -> Void = { _ in }) {
    self.sizeBytes = sizeBytes
    self.body = body
    self.interrupt = interrupt
  }
}

package struct FileEntry: Sendable, Equatable {
  package enum Kind: String, Sendable, Codable {
    case file
    case directory
    case symlink
    case other
  }

  package var name: String
  /// The absolute path.
  package var path: String
  package var kind: Kind
  package var sizeBytes: Int64
  /// The permission bits.
  package var mode: UInt32
  /// In the format of `ls -l`, such as `-rw-r--r--`.
  package var permissions: String
  package var owner: String
  package var group: String
  package var modifiedAt: Date
  package var symlinkTarget: String?

  package init(
    name: String, path: String, kind: Kind, sizeBytes: Int64, mode: UInt32, permissions: String, owner: String,
    group: String,
    modifiedAt: Date, symlinkTarget: String? = nil
  ) {
    self.name = name
    self.path = path
    self.kind = kind
    self.sizeBytes = sizeBytes
    self.mode = mode
    self.permissions = permissions
    self.owner = owner
    self.group = group
    self.modifiedAt = modifiedAt
    self.symlinkTarget = symlinkTarget
  }
}
