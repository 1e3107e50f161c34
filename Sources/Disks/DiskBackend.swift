package import Model
package import SystemPackage

/// Makes writable disks of sandboxes over shared, immutable bases (DM-1, DM-6).
///
/// A backend never writes to a base (L-8). Its disks are described by plain values, which the agent's journal keeps;
/// any later process can remove or freeze what an earlier one made.
///
/// Durability: a disk is as lasting as the VM that writes it. Its blocks survive the agent and the VMM (page cache),
/// not a power failure. `freeze` and `flatten` return only when their result is on stable storage, name included.
package protocol DiskBackend: Sendable {
  /// Makes an empty copy-on-write disk over `base`, of `sizeBytes` as the guest sees it.
  ///
  /// - Parameters:
  ///   - name: what distinguishes the disk from others of its directory.
  ///   - sizeBytes: a multiple of 512, at least the base's size. Beyond the base's end the disk reads as zeros.
  ///   - directory: belongs to the sandbox alone and exists.
  ///   - ownerUID: the user the VMM runs as; it must be able to read the base and to pass through the directories
  ///     above.
  /// - Throws: `invalid_request` when the size does not fit the base, `insufficient_storage`, else `internal`. Nothing
  ///   is left behind.
  func create(
    name: String, base: DiskBase, sizeBytes: Int64, directory: FilePath, ownerUID: UInt32
  ) async throws(MartletError) -> Disk

  /// Removes the disk; one that is gone already is fine. The base stays.
  func remove(_ disk: Disk) async throws(MartletError)

  /// Turns the disk's content into an immutable layer at `layer`, which disks can then be made over. The disk itself is
  /// gone.
  ///
  /// No VMM may have the disk open for writing. `layer` must not exist and be on the same file system.
  func freeze(_ disk: Disk, as layer: FilePath) async throws(MartletError) -> DiskBase

  /// Gives the disk's content another name, over which disks can be made at once; `layer` then reads what the disk
  /// holds now.
  ///
  /// For a guest that stands still and, when it runs on, writes elsewhere: nothing may ever write to the disk again.
  /// Its own name stays until `remove`. Not synchronized; idempotent. `layer` must be on the same file system.
  func capture(_ disk: Disk, as layer: FilePath) async throws(MartletError)

  /// Gives a layer another name on the same file system. Idempotent.
  func link(_ layer: FilePath, as name: FilePath) async throws(MartletError)

  /// Takes a captured layer's owner and write permission away, once no VMM uses it as its disk any more. Idempotent.
  func seal(_ layer: FilePath) async throws(MartletError)

  /// Writes what `disk` and the layers below it hold above `base` as one layer. Slow: reads and writes that much data.
  /// Not synchronized.
  func merge(_ disk: Disk, onto base: DiskBase, to layer: FilePath) async throws(MartletError)

  /// Writes the disk's whole content as a sparse raw image that needs no base. Returns its allocated bytes.
  func flatten(_ disk: Disk, to image: FilePath) async throws(MartletError) -> Int64

  /// What the disk takes on the host: allocated blocks, never the apparent size (DM-4). The base is not counted.
  func allocatedBytes(of disk: Disk) throws(MartletError) -> Int64
}

package enum DiskFormat: String, Sendable, Codable {
  case raw
  case qcow2
}

/// What a disk is made over: an image, or a layer that `freeze` made. Immutable, named by content.
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

  package var baseDigest: String { base.digest }

  package init(path: FilePath, format: DiskFormat, sizeBytes: Int64, base: DiskBase) {
    self.path = path
    self.format = format
    self.sizeBytes = sizeBytes
    self.base = base
  }
}

extension DiskBackend {
  /// A disk over a raw image whose file name, without extension, is the digest of its content.
  package func create(
    name: String, base: FilePath, sizeBytes: Int64, directory: FilePath, ownerUID: UInt32
  ) async throws(MartletError) -> Disk {
    let base = DiskBase(path: base, format: .raw, digest: base.stem ?? base.string)
    return try await create(name: name, base: base, sizeBytes: sizeBytes, directory: directory, ownerUID: ownerUID)
  }
}
