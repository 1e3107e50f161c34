package import Persistence

/// Configuration of authentication, sign-up, rate limits and quotas.
package struct IdentityConfiguration: Sendable {
  /// The installation's secret. The random default is valid only as long as the process.
  package var secret: TokenSecret
  package var hasher: PasswordHasher
  package var rates: RateLimits.Rates
  /// Quotas for teams that have none of their own.
  package var quota: QuotaRecord
  /// Whether users may create accounts for themselves.
  package var allowsSignUp: Bool

  package init(
    secret: TokenSecret = .random(), hasher: PasswordHasher = PasswordHasher(),
    rates: RateLimits.Rates = RateLimits.Rates(),
    quota: QuotaRecord = Quotas.standard, allowsSignUp: Bool = true
  ) {
    self.secret = secret
    self.hasher = hasher
    self.rates = rates
    self.quota = quota
    self.allowsSignUp = allowsSignUp
  }
}
