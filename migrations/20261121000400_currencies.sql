-- Currencies (ISO 4217): one table for all tenants.
create table currencies (
    code        text not null,
    name        text not null,
    -- Digits after the decimal point: amounts are stored in units of 10^-minor_digits.
    minor_digits integer not null,
    constraint currencies_pkey primary key (code),
    constraint currencies_code_form check (code ~ '^[A-Z]{3}$'),
    constraint currencies_minor_digits_range check (minor_digits between 0 and 4)
);

insert into currencies (code, name, minor_digits) values
    ('AED', 'UAE dirham', 2), ('ARS', 'Argentine peso', 2), ('AUD', 'Australian dollar', 2),
    ('BHD', 'Bahraini dinar', 3), ('BRL', 'Brazilian real', 2), ('CAD', 'Canadian dollar', 2),
    ('CHF', 'Swiss franc', 2), ('CLP', 'Chilean peso', 0), ('CNY', 'Chinese yuan', 2),
    ('COP', 'Colombian peso', 2), ('CZK', 'Czech koruna', 2), ('DKK', 'Danish krone', 2),
    ('EGP', 'Egyptian pound', 2), ('EUR', 'Euro', 2), ('GBP', 'Pound sterling', 2),
    ('HKD', 'Hong Kong dollar', 2), ('HUF', 'Hungarian forint', 2), ('IDR', 'Indonesian rupiah', 2),
    ('ILS', 'Israeli new shekel', 2), ('INR', 'Indian rupee', 2), ('ISK', 'Icelandic króna', 0),
    ('JOD', 'Jordanian dinar', 3), ('JPY', 'Japanese yen', 0), ('KES', 'Kenyan shilling', 2),
    ('KRW', 'South Korean won', 0), ('KWD', 'Kuwaiti dinar', 3), ('MXN', 'Mexican peso', 2),
    ('MYR', 'Malaysian ringgit', 2), ('NGN', 'Nigerian naira', 2), ('NOK', 'Norwegian krone', 2),
    ('NZD', 'New Zealand dollar', 2), ('OMR', 'Omani rial', 3), ('PEN', 'Peruvian sol', 2),
    ('PHP', 'Philippine peso', 2), ('PLN', 'Polish złoty', 2), ('QAR', 'Qatari riyal', 2),
    ('RON', 'Romanian leu', 2), ('SAR', 'Saudi riyal', 2), ('SEK', 'Swedish krona', 2),
    ('SGD', 'Singapore dollar', 2), ('THB', 'Thai baht', 2), ('TND', 'Tunisian dinar', 3),
    ('TRY', 'Turkish lira', 2), ('TWD', 'New Taiwan dollar', 2), ('UAH', 'Ukrainian hryvnia', 2),
    ('USD', 'United States dollar', 2), ('VND', 'Vietnamese đồng', 0), ('ZAR', 'South African rand', 2);

select app.share('currencies');
comment on table currencies is 'doctor: allow D06, every tenant reads the same currencies and no tenant writes them';
