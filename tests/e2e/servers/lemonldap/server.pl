# LemonLDAP::NG's portal as an OpenID provider, with its own pages: the issuer ends with a slash, there is no
# revocation endpoint, Basic is taken of \w only, a dead refresh token is an invalid_request. It is told by the
# environment and tells on stdout, one JSON object a line: where it listens, every token request and its outcome.
use strict;
use warnings;
use File::Path qw(make_path);
use HTTP::Server::PSGI;
use IO::Handle;
use JSON ();
use Plack::Request;
use Time::HiRes ();

STDOUT->autoflush(1);
# Loaded although captchas are off; the real one wants a graphics library.
BEGIN { $INC{"GD/SecurityImage.pm"} = __FILE__; *GD::SecurityImage::import = sub { } }

my $json = JSON->new->canonical;
my ( $folder, $port, $share, $ttl ) = @ENV{qw(FOLDER PORT SHARE ACCESS_TTL)};
my $origin = "http://127.0.0.1:$port";

sub say_event {
    my ( $event, %facts ) = @_;
    print STDOUT $json->encode( { event => $event, at => Time::HiRes::time(), %facts } ), "\n";
}

sub write_file {
    my ( $name, $text ) = @_;
    open my $file, '>', "$folder/$name" or die "$name: $!";
    print {$file} $text;
    close $file;
}

sub relying_party {
    my ( $id, $secret, %more ) = @_;
    return {
        oidcRPMetaDataOptionsClientID              => $id,
        oidcRPMetaDataOptionsClientSecret          => $secret,
        oidcRPMetaDataOptionsDisplayName           => $id,
        oidcRPMetaDataOptionsIDTokenSignAlg        => 'RS256',
        oidcRPMetaDataOptionsIDTokenExpiration     => 3600,
        oidcRPMetaDataOptionsAccessTokenExpiration => $ttl,
        oidcRPMetaDataOptionsAuthorizationCodeExpiration => 60,
        oidcRPMetaDataOptionsRedirectUris          => $ENV{REDIRECT_URIS},
        %more,
    };
}

make_path( map { "$folder/$_" } qw(conf sessions lock psessions plock cache) );
my $private = do { local $/; open my $f, '<', $ENV{PRIVATE_KEY} or die; <$f> };
my $public  = do { local $/; open my $f, '<', $ENV{PUBLIC_KEY} or die; <$f> };
my %rps = (
    web      => relying_party( 'web', $ENV{WEB_SECRET}, oidcRPMetaDataOptionsRefreshToken => 1 ),
    m2m      => relying_party( 'm2m', $ENV{M2M_SECRET}, oidcRPMetaDataOptionsAllowClientCredentialsGrant => 1 ),
    upstream => relying_party( 'upstream', 'introspect' ),
);
my $sessions = { Directory => "$folder/sessions", LockDirectory => "$folder/lock" };
my %conf = (
    cfgNum                           => 1,
    cfgAuthor                        => 'test',
    cfgDate                          => time,
    cfgVersion                       => '2.16.1',
    domain                           => '127.0.0.1',
    portal                           => "$origin/",
    securedCookie                    => 0,
    authentication                   => 'Demo',
    userDB                           => 'Same',
    passwordDB                       => 'Demo',
    registerDB                       => 'Null',
    key                              => 'only for this test',
    requireToken                     => 1,
    captcha_login_enabled            => 0,
    captcha_mail_enabled             => 0,
    captcha_register_enabled         => 0,
    globalStorage                    => 'Apache::Session::File',
    globalStorageOptions             => $sessions,
    persistentStorage                => 'Apache::Session::File',
    persistentStorageOptions         => { Directory => "$folder/psessions", LockDirectory => "$folder/plock" },
    locationRules                    => { '127.0.0.1' => { default => 'accept' } },
    exportedVars                     => { uid => 'uid', mail => 'mail', cn => 'cn' },
    issuerDBOpenIDConnectActivation  => 1,
    oidcServicePrivateKeySig         => $private,
    oidcServicePublicKeySig          => $public,
    oidcServiceKeyIdSig              => 'key',
    oidcServiceAllowAuthorizationCodeFlow => 1,
    oidcRPMetaDataOptions            => \%rps,
    oidcRPMetaDataExportedVars       => { map { $_ => { email => 'mail', name => 'cn' } } keys %rps },
    oidcRPMetaDataOptionsExtraClaims => {},
    oidcRPMetaDataScopeRules         => { map { $_ => { api => '1' } } keys %rps },
);
write_file( 'conf/lmConf-1.json', $json->encode( \%conf ) );
write_file( 'lemonldap-ng.ini', <<"INI" );
[all]
logLevel = error
[configuration]
type = File
dirName = $folder/conf
localStorage = Cache::FileCache
localStorageOptions = { 'namespace' => 'conf', 'default_expires_in' => 600, 'cache_root' => '$folder/cache', 'cache_depth' => 3 }
[portal]
staticPrefix = /static
templateDir = $share/portal/templates
languages = en
INI
$ENV{LLNG_DEFAULTCONFFILE} = "$folder/lemonldap-ng.ini";

require Lemonldap::NG::Portal::Main;
my $portal = Lemonldap::NG::Portal::Main->run( { configStorage => { confFile => "$folder/lemonldap-ng.ini" } } );

sub token {
    my ( $request, $response ) = @_;
    my $form = $request->body_parameters;
    my $body = eval { $json->decode( join '', @{ $response->[2] } ) } // {};
    say_event(
        'token',
        grant   => $form->{grant_type},
        outcome => $body->{error} // 'success',
        sent    => [ grep { defined } map { $form->{$_} } qw(code code_verifier refresh_token) ],
        got     => [ grep { defined } map { $body->{$_} } qw(access_token refresh_token) ],
    );
}

my $app = sub {
    my $request = Plack::Request->new(shift);
    if ( $request->path eq '/end_all' ) {
        unlink glob "$folder/sessions/*";
        return [ 200, [], ['{}'] ];
    }
    my $response = $portal->( $request->env );
    token( $request, $response ) if $request->path eq '/oauth2/token';
    return $response;
};
my $server = HTTP::Server::PSGI->new( host => '127.0.0.1', port => $port, timeout => 60 );
$server->setup_listener;
say_event( 'ready', issuer => "$origin/", introspection_endpoint => "$origin/oauth2/introspect", control => $origin );
$server->accept_loop($app);
