package import Foundation

package struct GuestMetrics: Sendable, Equatable {
  package var timestamp: Date
  package var cpuPercent: Double
  package var memoryBytes: Int64
  package var memoryTotalBytes: Int64
  package var diskBytes: Int64
  package var diskTotalBytes: Int64

  package init(
    timestamp: Date, cpuPercent: Double, memoryBytes: Int64, memoryTotalBytes: Int64, diskBytes: Int64,
    diskTotalBytes: Int64
  ) {
    self.timestamp = timestamp
    self.cpuPercent = cpuPercent
    self.memoryBytes = memoryBytes
    self.memoryTotalBytes = memoryTotalBytes
    self.diskBytes = diskBytes
    self.diskTotalBytes = diskTotalBytes
  }
}
