import CPostgres
import Logging
import Model

/// Writes the server's notices to the log; without a receiver libpq would write them to standard error.
final class PostgresNotices: Sendable {
  private let logger: Logger

  init(logger: Logger) {
    self.logger = logger
  }

  /// The receiver must live as long as the connection.
  func receive(from handle: OpaquePointer) {
    PQsetNoticeReceiver(
      handle,
      { context, result in
        guard let context, let result else { return }
        Unmanaged<PostgresNotices>.fromOpaque(context).takeUnretainedValue().log(result)
      }, Unmanaged.passUnretained(self).toOpaque())
  }

  private func log(_ result: OpaquePointer) {
    let isWarning = PostgresDiagnosis.severity.text(in: result) == "WARNING"
    logger.log(
      level: isWarning ? .warning : .debug, "notice of the database server",
      metadata: [
        LogKey.sqlState: "\(PostgresDiagnosis.state.text(in: result) ?? "")",
        LogKey.text: "\(PostgresDiagnosis.message.text(in: result) ?? "")",
      ])
  }
}
