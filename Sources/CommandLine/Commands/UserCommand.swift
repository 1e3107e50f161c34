import APIClient
import ArgumentParser

struct UserCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "user", abstract: "Manage user accounts; for administrators of the platform.",
    subcommands: [List.self, Create.self, Admin.self])

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List accounts.", aliases: ["list"])

    @OptionGroup var output: OutputOptions
    @OptionGroup var session: SessionOptions

    func run() async throws {
      let users = try await session.withClient { try await $0.listUsers() }
      try await output.print(users) {
        Table(
          header: ["ID", "EMAIL", "NAME", "ADMIN", "AGE"],
          rows: users.map {
            [$0.userID, $0.email, $0.name, $0.isAdmin ? "yes" : "no", Formatting.age(since: $0.createdAt)]
          }
        ).rendered
      }
    }
  }

  struct Create: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "create", abstract: "Create an account with a team of its own.",
      discussion: """
        Asks for the password on the terminal, or reads it from standard input. With --local the account is created \
        directly in the database of this machine's server (the file in its data directory, or the database of \
        DATABASE_URL). That needs write access to the database but no session; use it if no administrator can log in.
        """)

    @Option(help: "Email address of the account.")
    var email: String
    @Option(help: "Name of the user; by default the local part of the email address.")
    var name: String?
    @Flag(help: "Make the user an administrator of the platform.")
    var admin = false
    @Flag(help: "Write to the database of this machine's server instead of sending a request.")
    var local = false
    @Option(help: ArgumentHelp("Directory of the server's state (MARTLET_DATA_DIR); for --local.", valueName: "path"))
    var dataDir: String?
    @OptionGroup var output: OutputOptions
    @OptionGroup var session: SessionOptions

    func run() async throws {
      let context = CommandContext.current
      let password = try await SecretInput.read("Password for \(email): ")
      let name = name ?? String(email.prefix { $0 != "@" })
      let new = NewUser(email: email, password: password, name: name, isAdmin: admin)
      let user: UserResource
      if local {
        let settings = try context.settings()
        let directories = try ServerDirectories(settings: settings, dataDirectory: dataDir, context: context)
        guard let services = LocalServices.current else { throw ValidationError("this program cannot open a database") }
        user = try await services.createUser(
          LocalUserOptions(dataDirectory: directories.data, database: try DatabaseChoice(settings: settings), user: new)
        )
      } else {
        user = try await session.withClient { try await $0.createUser(new) }
      }
      try await output.print(user) { user.userID }
    }
  }

  struct Admin: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "admin", abstract: "Grant or revoke a user's administrator rights.")

    @Argument(help: "Id of the account.")
    var user: String
    @Flag(help: "Revoke the administrator rights.")
    var revoke = false
    @OptionGroup var session: SessionOptions

    func run() async throws {
      _ = try await session.withClient { try await $0.setAdmin(!revoke, of: user) }
    }
  }
}
