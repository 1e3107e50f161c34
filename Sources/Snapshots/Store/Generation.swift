package import Model
package import SystemPackage

/// A generation that is being written; it becomes visible with `SnapshotStore.publish`.
package struct GenerationDraft: Sendable, Equatable {
  package let id: GenerationID
  /// Private to the writer, on the file system of the store.
  package let directory: FilePath

  /// Refers to a draft that `SnapshotStore.begin` has made, possibly in another process.
  package init(id: GenerationID, directory: FilePath) {
    self.id = id
    self.directory = directory
  }

  package var memoryPath: FilePath { path(of: .memoryLayer) }
  package var headerPath: FilePath { path(of: .memoryHeader) }
  package var devicePath: FilePath { path(of: .deviceState) }
  package var diskPath: FilePath { path(of: .diskLayer) }

  func path(of file: SnapshotFile) -> FilePath { directory.appending(file.rawValue) }
}

/// A generation that is complete, durable and immutable.
package struct Generation: Sendable, Equatable {
  package let manifest: GenerationManifest
  package let directory: FilePath

  package var id: GenerationID { manifest.id }
  package var memoryPath: FilePath { path(of: .memoryLayer) }
  package var headerPath: FilePath { path(of: .memoryHeader) }
  package var devicePath: FilePath { path(of: .deviceState) }
  package var diskPath: FilePath { path(of: .diskLayer) }
  /// Pages that the guest needed first after a restore; may be missing, is replaced as a whole.
  package var workingSetPath: FilePath { path(of: .workingSet) }

  func path(of file: SnapshotFile) -> FilePath { directory.appending(file.rawValue) }
}
