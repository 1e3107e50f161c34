package import Model
package import SystemPackage

/// Makes writable disks of sandboxes over shared, immutable layers.
///
/// A backend never writes to a layer. Its disks are described by plain values, which the agent's journal keeps; any
/// later process can open, capture or remove what an earlier one made. VMMs never open a disk by name: `open` gives
/// what is passed to them.
///
/// Durability: a disk is as lasting as the VM that writes it. Its blocks survive the agent and the VMM (page cache),
/// not a power failure.
package protocol DiskBackend: Sendable {
  /// Makes an empty copy-on-write disk over `base`, of `sizeBytes` as the guest sees it. Only root can open it.
  ///
  /// - Parameters:
  ///   - name: what distinguishes the disk from others of its directory.
  ///   - sizeBytes: a multiple of 512, at least the base's size. Beyond the base's end the disk reads as zeros.
  ///   - directory: belongs to the sandbox alone and exists.
  /// - Throws: `invalid_request` when the size does not fit the base, `insufficient_storage`, else `internal`. Nothing
  ///   is left behind.
  func create(name: String, base: DiskBase, sizeBytes: Int64, directory: FilePath) async throws(MartletError) -> Disk

  /// Opens the disk for its VMM, and the layers below it for reading, nearest first.
  ///
  /// - Throws: `snapshot_damaged` when a layer is not a regular file of this process's user, or not in its format;
  ///   `internal`.
  func open(_ disk: Disk, over layers: [DiskLayer]) async throws(MartletError) -> OpenDisk

  /// Removes the disk; one that is gone already is fine. The layers stay.
  func remove(_ disk: Disk) async throws(MartletError)

  /// Writes what `disks` hold, the uppermost first, as one immutable layer: a new file that only root can open. What
  /// none of them stores is left to what lies below them.
  ///
  /// The disks may be open in a VMM that was captured: nothing that they say of other files is used, and a disk whose
  /// metadata are not what this backend writes is refused. Slow: copies that much data. Not synchronized.
  /// - Throws: `agent_error` for such a disk, `insufficient_storage`, else `internal`. Nothing is left behind.
  func capture(_ disks: [Disk], as layer: FilePath) async throws(MartletError)

  /// What the disk takes on the host: allocated blocks, never the apparent size. The layers are not counted.
  func allocatedBytes(of disk: Disk) throws(MartletError) -> Int64
}

package enum DiskFormat: String, Sendable, Codable {
  case raw
  case qcow2
}

/// What a disk is made over: an image, or a layer that `capture` made. Immutable, named by content.
package struct DiskBase: Sendable, Codable, Equatable {
  package var path: FilePath
  package var format: DiskFormat
  /// Names the content of the image at the bottom.
  package var digest: String

  package init(path: FilePath, format: DiskFormat, digest: String) {
    self.path = path
    self.format = format
    self.digest = digest
  }
}

/// A writable disk, as the journal keeps it.
package struct Disk: Sendable, Codable, Equatable {
  package var path: FilePath
  package var format: DiskFormat
  /// What the guest sees.
  package var sizeBytes: Int64
  package var base: DiskBase
  /// Whether the disk's file names no other file. Nil, for no, in entries of earlier versions, whose VMMs opened disks
  /// by name.
  package var isSelfContained: Bool?

  package var baseDigest: String { base.digest }

  package init(path: FilePath, format: DiskFormat, sizeBytes: Int64, base: DiskBase) {
    self.path = path
    self.format = format
    self.sizeBytes = sizeBytes
    self.base = base
    isSelfContained = true
  }

  /// Distinguishes the disk from others of its directory, and from layers.
  package var name: String { path.stem ?? path.string }
}

/// An immutable file below a disk.
package struct DiskLayer: Sendable, Equatable {
  /// Distinguishes it from all other layers and disks: letters, digits, `-` and `_`, at most 31.
  package var name: String
  package var path: FilePath
  package var format: DiskFormat

  package init(name: String, path: FilePath, format: DiskFormat) {
    self.name = name
    self.path = path
    self.format = format
  }
}
