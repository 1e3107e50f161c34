package import LinuxSystem

/// A disk and what lies below it as open files, to be passed to a VMM, which cannot open any of them itself.
package struct OpenDisk: Sendable {
  package struct File: Sendable {
    package var name: String
    package var format: DiskFormat
    package var readable: OwnedDescriptor
    /// Nil for layers.
    package var writable: OwnedDescriptor?

    package init(name: String, format: DiskFormat, readable: OwnedDescriptor, writable: OwnedDescriptor? = nil) {
      self.name = name
      self.format = format
      self.readable = readable
      self.writable = writable
    }
  }

  package var disk: File
  /// Nearest first.
  package var layers: [File]

  package init(disk: File, layers: [File]) {
    self.disk = disk
    self.layers = layers
  }
}
