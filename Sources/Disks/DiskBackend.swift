package import Model
package import SystemPackage

/// Makes writable disks of sandboxes over shared, immutable bases.
///
/// A backend never writes to a base. Its disks are described by plain values, which the host agent's journal stores;
/// any later process can remove or freeze a disk that an earlier one made.
///
/// Durability: a disk lasts as long as the VM that writes it. Its blocks survive the host agent and the VMM (page
/// cache), but not a power failure. `freeze` and `flatten` return only when their result, including its name, is on
/// stable storage.
package protocol DiskBackend: Sendable {
  /// Makes an empty copy-on-write disk over `base`, of `sizeBytes` as the guest sees it.
  ///
  /// - Parameters:
  ///   - name: distinguishes the disk from others in its directory.
  ///   - sizeBytes: a multiple of 512, at least the base's size. Beyond the base's end the disk reads as zeros.
  ///   - directory: exists and belongs to the sandbox alone.
  ///   - ownerUID: the user that the VMM runs as. It must be able to read the base and traverse the directories above.
  /// - Throws: `invalid_request` when the size does not fit the base, `insufficient_storage`, else `internal`. Nothing
  ///   is left behind.
  func create(
    name: String, base: DiskBase, sizeBytes: Int64, directory: FilePath, ownerUID: UInt32
  ) async throws(MartletError) -> Disk

  /// Removes the disk; an absent disk is success. The base stays.
  func remove(_ disk: Disk) async throws(MartletError)

  /// Turns the disk's content into an immutable layer at `layer`, over which disks can be made. The disk itself no
  /// longer exists afterwards.
  ///
  /// No VMM may have the disk open for writing. `layer` must not exist and must be on the same file system.
  func freeze(_ disk: Disk, as layer: FilePath) async throws(MartletError) -> DiskBase

  /// Gives the disk's content another name, over which disks can be made at once; `layer` then reads the disk's present
  /// content.
  ///
  /// For a guest that is stopped and later writes to another disk: this disk must never be written again. Its own name
  /// stays until `remove`. Not synchronized; idempotent. `layer` must be on the same file system.
  func capture(_ disk: Disk, as layer: FilePath) async throws(MartletError)

  /// Gives a layer another name on the same file system. Idempotent.
  func link(_ layer: FilePath, as name: FilePath) async throws(MartletError)

  /// Removes a captured layer's owner and write permission, after the last VMM that used it as its disk. Idempotent.
  func seal(_ layer: FilePath) async throws(MartletError)

  /// Writes the content of `disk` and of the layers between it and `base` as one layer. Slow: reads and writes that
  /// much data. Not synchronized.
  func merge(_ disk: Disk, onto base: DiskBase, to layer: FilePath) async throws(MartletError)

  /// Writes the disk's whole content as a sparse raw image without a base. Returns its allocated bytes.
  func flatten(_ disk: Disk, to image: FilePath) async throws(MartletError) -> Int64

  /// Bytes allocated for the disk on the host, not its apparent size. The base is not counted.
  func allocatedBytes(of disk: Disk) throws(MartletError) -> Int64
}

package enum DiskFormat: String, Sendable, Codable {
  case raw
  case qcow2
}

/// The base of a disk: an image, or a layer made by `freeze`. Immutable, named by content.
package struct DiskBase: Sendable, Codable, Equatable {
  package var path: FilePath
  package var format: DiskFormat
  /// Digest of the image at the bottom of the chain.
  package var digest: String

  package init(path: FilePath, format: DiskFormat, digest: String) {
    self.path = path
    self.format = format
    self.digest = digest
  }
}

/// A writable disk, as the journal stores it.
package struct Disk: Sendable, Codable, Equatable {
  package var path: FilePath
  package var format: DiskFormat
  /// Size as the guest sees it.
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
  /// Makes a disk over a raw image whose file name, without extension, is the digest of its content.
  package func create(
    name: String, base: FilePath, sizeBytes: Int64, directory: FilePath, ownerUID: UInt32
  ) async throws(MartletError) -> Disk {
    let base = DiskBase(path: base, format: .raw, digest: base.stem ?? base.string)
    return try await create(name: name, base: base, sizeBytes: sizeBytes, directory: directory, ownerUID: ownerUID)
  }
}
