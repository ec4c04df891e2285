import { describe, expect, it } from 'vitest';
import { isSecretKey, REDACTED, redactText } from './redaction.ts';

describe('keys whose values are not shown', () => {
  it.each([
    ...['password', 'db.password', 'user_passwd', 'client-secret', 'http.request.header.authorization'],
    ...[
      'http.request.header.cookie',
      'X-Api-Key',
      'aws.secretAccessKey',
      'session.id',
      'newrelic.license_key',
    ],
    ...['ｐａｓｓｗｏｒｄ', 'pass\u200bword'],
    ...['refreshToken', 'db.connection_string', 'ssh.private.key', 'otp', 'jwt.claims'],
  ])('%s', (key) => expect(isSecretKey(key)).toBe(true));

  it.each([
    'http.method',
    'service.name',
    'author',
    'key',
    'monkey.name',
    'passenger',
    'pinned',
    'k8s.pod.name',
  ])('not %s', (key) => expect(isSecretKey(key)).toBe(false));
});

describe('texts', () => {
  it.each([
    ['Authorization: Bearer abc.def-ghi', 'Authorization'],
    ['sent with bearer 0123456789', 'sent with'],
    ['GET /a?user=ann&token=abc123&x=1', 'x=1'],
    ['{"password": "correct horse", "user": "ann"}', '"user": "ann"'],
    ["login with pwd='swordfish' failed", 'failed'],
    ['postgres://ann:swordfish@db:5432/shop', '@db:5432/shop'],
    ['got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N', 'got'],
    ['key -----BEGIN PRIVATE KEY-----\nMIIEvQ\n-----END PRIVATE KEY----- end', 'end'],
    ['license 0123456789abcdef0123456789abcdef0123NRAL used', 'used'],
    ['ghp_16C7e42F292c6912E7710c838347Ae178B4a pushed', 'pushed'],
    ['id AKIAIOSFODNN7EXAMPLE signed', 'signed'],
    ['x-api-key: abcdef', 'x-api-key'],
    ['{\\"password\\":\\"swordfish\\",\\"user\\":\\"ann\\"}', 'ann'],
    ['Parameters: {"password"=>"swordfish", "user"=>"ann"}', '"user"=>"ann"'],
    ['password := swordfish, user', 'user'],
    ['PASSWORD => swordfish', 'PASSWORD'],
    ['password = "a \\" swordfish", user', 'user'],
    ['next=%2Flogin%3Fpassword%3Dswordfish', 'login'],
    ['Cookie: theme=dark; auth=swordfish\nHost: a', 'Host: a'],
    ['set-cookie: id=1, sid=swordfish', 'set-cookie'],
    ['Authorization: Digest username="ann", response="swordfish"', 'Authorization'],
    ['{"authorization":"Own a, swordfish","user":"ann"}', '"user":"ann"'],
    ['exec: mysql --password swordfish shop', 'shop'],
    ['<login><user>ann</user><password>swordfish</password></login>', '<user>ann</user>'],
    ['<wsse:Password Type="a">swordfish two</wsse:Password>', 'Type="a"'],
    ["ALTER USER ann IDENTIFIED BY 'swordfish'", 'ALTER USER ann'],
    ['curl -u ann:swordfish https://a', 'https://a'],
    ['curl --user ann:swordfish https://a', 'https://a'],
    ['mysql -uroot -pswordfish shop', '-uroot'],
    ["mysqldump -h db -p'swordfish two' shop", 'shop'],
    ['ran /usr/bin/mariadb-dump -pswordfish --all', '--all'],
    ['exec ["mysql","-uroot","-pswordfish","shop"]', '"shop"]'],
    ['sshpass -p swordfish ssh -p 22 host', 'ssh -p 22 host'],
    ['sshpass -pswordfish scp a b', 'scp a b'],
    ['mongosh -u ann -p "swordfish two" shop', 'shop'],
    ['redis-cli -h r -a swordfish ping', 'ping'],
    ['redis-cli -a first ping && redis-cli -a swordfish get a', 'get a'],
    ['sshpass -p first ssh -p 22 a; sshpass -p swordfish ssh -p 23 b', '; sshpass -p'],
  ])('%s', (text, rest) => {
    const shown = redactText(text);
    expect(shown).toContain(REDACTED);
    expect(shown).toContain(rest);
    for (const secret of [
      'abc.def',
      '0123456789',
      'abc123',
      'horse',
      'swordfish',
      'eyJ',
      'MII',
      'ghp_',
      'AKIA',
      'abcdef',
    ])
      expect(shown).not.toContain(secret);
  });

  it.each([
    'GET /users/123 took 12 ms',
    'checkout-7d9f8b6c5-x2k4p started',
    'id 550e8400-e29b-41d4-a716-446655440000',
    'com.example.shop.CheckoutServiceImplementation',
    'https://example.com/a/b?page=2',
    'server -port 8080 -path /a -pretty -p80',
    'mysql -u root -p shop',
    'mysql -P 3306 -h db',
    'no mysql at -port 3306 -path=/var/run',
    'exec ["mysql","-p","shop"]',
    'ssh -p 22 host, then redis-cli -h r ping',
  ])('leaves %s', (text) => expect(redactText(text)).toBe(text));

  it('truncates long text, and still redacts a secret across the cut', () => {
    expect(redactText('a b '.repeat(1_000))).toHaveLength(257);
    expect(redactText(`${'x '.repeat(125)}token=swordfish`)).not.toContain('sword');
  });
});
